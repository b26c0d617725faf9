package agentssh

import (
	"sync"
	"time"

	"github.com/worktally/worktally/agent/stats"
)

// Processes finds out who listens in the workspace. Nothing found is the zero
// value. Both methods may be called from any goroutine and may take some
// milliseconds.
type Processes interface {
	ListeningOnTCP(port uint16) stats.ForwardFacts
	ListeningOnUnix(path string) stats.ForwardFacts
}

const (
	// lookupLife is how long an answer counts. A browser behind one forward opens
	// dozens of channels in a second.
	lookupLife = 2 * time.Second
	// maxLookups bounds the answers that are kept; the next one starts afresh.
	maxLookups = 256
)

// target is a port, or the path of a socket.
type target struct {
	port uint16
	path string
}

// lookups keeps answers for a moment and lets one goroutine ask for all that
// want to know the same.
type lookups struct {
	ask func(target) stats.ForwardFacts

	mu    sync.Mutex // guards known
	known map[target]*answer
}

type answer struct {
	ready chan struct{}
	facts stats.ForwardFacts // may be read when ready is closed
	until time.Time          // guarded by lookups.mu; zero while being asked
}

// NewProcesses returns the processes that the process file system at root shows
// ("/proc"). It finds nothing on systems without one.
func NewProcesses(root string) Processes {
	return &lookups{ask: func(t target) stats.ForwardFacts { return whoListens(root, t) }, known: make(map[target]*answer)}
}

func (l *lookups) ListeningOnTCP(port uint16) stats.ForwardFacts { return l.get(target{port: port}) }

func (l *lookups) ListeningOnUnix(path string) stats.ForwardFacts { return l.get(target{path: path}) }

func (l *lookups) get(t target) stats.ForwardFacts {
	l.mu.Lock()
	a, ok := l.known[t]
	if ok && (a.until.IsZero() || time.Now().Before(a.until)) {
		l.mu.Unlock()
		<-a.ready
		return a.facts
	}
	if len(l.known) >= maxLookups {
		clear(l.known)
	}
	a = &answer{ready: make(chan struct{})}
	l.known[t] = a
	l.mu.Unlock()
	defer close(a.ready)
	a.facts = l.ask(t)
	l.mu.Lock()
	a.until = time.Now().Add(lookupLife)
	l.mu.Unlock()
	return a.facts
}
