package main

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/worktally/worktally/internal/faultnet"
)

const (
	// promise is how old a count must be at a crash of the agent to be kept.
	promise = 5 * time.Second
	// standstill is how long the machine or its disk may do nothing meanwhile: here
	// many programs share them.
	standstill = 2 * time.Second
)

// model is what one agent must have counted. Between crashes of the agent it is
// exact. At a crash it keeps what the agent itself found on its disk afterwards,
// after a look whether that is at least what was promised and at most what was
// done. All methods may be called concurrently.
type model struct {
	ssh   *faultnet.Proxy // counts bytes
	notes string          // file in which scripts note how they ended

	mu   sync.Mutex
	base counts // before this run of the agent
	// toAgent and fromAgent are what ssh had counted when the run began.
	toAgent, fromAgent uint64
	tried, opened      float64 // sessions of this run
	pid                int     // of the agent in this run
	strangers          bool    // others than people may move bytes at the moment
	unseen             counts  // what the end of this run may add that nobody notes
	// cut is how many sessions may have no end, because the agent was killed when
	// they were open.
	cut     float64
	moments []moment
}

// moment is what was counted for sure at a time.
type moment struct {
	at   time.Time
	sure counts
}

// begin starts a run of the agent, which begins with base, while nothing happens.
func (m *model) begin(base counts, pid int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base, m.pid, m.tried, m.opened, m.unseen = base, pid, 0, 0, counts{}
	m.toAgent, m.fromAgent = m.ssh.Counts()
	m.moments = []moment{{time.Now(), base}}
}

// try notes a session that may be counted from now on; the func, that it was.
func (m *model) try() (opened func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tried++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.opened++
	}
}

// now returns what is counted for sure and what may be. They are equal while
// nothing is under way.
func (m *model) now() (sure, maybe counts, err error) {
	text, err := os.ReadFile(m.notes)
	if err != nil && !os.IsNotExist(err) {
		return sure, maybe, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	to, from := m.ssh.Counts()
	run := counts{sessions: m.opened, received: float64(to - m.toAgent), transmitted: float64(from - m.fromAgent)}
	run[scriptsOK], run[scriptsFailed] = noted(string(text), m.pid)
	sure = m.base.plus(run)
	maybe = sure.plus(m.unseen)
	maybe[sessions] += m.tried - m.opened
	if m.strangers {
		maybe[received] += unknown
		maybe[transmitted] += unknown
	}
	return sure, maybe, nil
}

// mayAdd says what the end of this run may make the agent count without a note.
func (m *model) mayAdd(unseen counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unseen = unseen
}

// unknown is more bytes than strangers can move.
const unknown = 1 << 40

// expectStrangers says that bytes may be counted from now on that ssh does not see.
func (m *model) expectStrangers() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.strangers = true
}

// strangersCounted says that they are gone, and what the agent has counted with
// them, while nothing happens.
func (m *model) strangersCounted(got counts) error {
	sure, _, err := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range got {
		m.base[k] += got[k] - sure[k]
	}
	m.tried, m.strangers = m.opened, false
	return err
}

// killed says that the agent was, with so many sessions open at most.
func (m *model) killed(open int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut += float64(open)
}

// mayBeCut is how many sessions may have no end.
func (m *model) mayBeCut() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cut
}

// noted counts the lines "PID true" and "PID false" of one agent process.
func noted(text string, pid int) (ok, failed float64) {
	of := strconv.Itoa(pid)
	return float64(strings.Count(text, "\n"+of+" true")), float64(strings.Count(text, "\n"+of+" false"))
}

// observe keeps the moment for promised.
func (m *model) observe() error {
	at := time.Now()
	sure, _, err := m.now()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moments = append(m.moments, moment{at, sure})
	// The newest that is old enough is needed, and none before.
	for len(m.moments) > 1 && at.Sub(m.moments[1].at) > promise+standstill+time.Second {
		m.moments = m.moments[1:]
	}
	return nil
}

// promised is what must have been kept by an agent that was killed at a time.
func (m *model) promised(killed time.Time) counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := m.moments[0].sure
	for _, mo := range m.moments {
		if killed.Sub(mo.at) >= promise+standstill {
			keep = mo.sure
		}
	}
	return keep
}
