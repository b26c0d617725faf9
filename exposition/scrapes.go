package exposition

import (
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// unhurried is how long a scrape has its place for sure. A page of thousands
	// of agents takes less.
	unhurried = time.Second
	// handover is how long a scrape waits for the one that made room to be gone.
	handover = 2 * time.Second
)

// scrapes bounds those that run at once. When all are taken, one that was let
// in before has to go: of the host that has the most of them, the oldest. So who
// reads slowly, or not at all, keeps nobody out for longer than unhurried, and who
// opens many scrapes keeps out himself.
type scrapes struct {
	limit int
	mu    sync.Mutex
	taken []*scrape // the oldest first
}

// scrape has one of the places.
type scrape struct {
	host  string
	since time.Time
	end   func()        // makes its writes fail
	left  chan struct{} // closed when it is over
}

// take returns a place for a scrape, or nil if there is none. gone, if not nil, is
// closed when the scrape that had the place before is over.
func (p *scrapes) take(remote string, end func()) (mine *scrape, gone <-chan struct{}) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	mine = &scrape{host: host, since: time.Now(), end: end, left: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) >= p.limit {
		i := p.spareLocked(mine)
		if i < 0 {
			return nil, nil
		}
		// Under the lock: a scrape that is over does not end the next one of its
		// connection.
		p.taken[i].end()
		gone = p.taken[i].left
		p.taken = slices.Delete(p.taken, i, i+1)
	}
	p.taken = append(p.taken, mine)
	return mine, gone
}

// spareLocked returns which scrape has to go for a new one, -1 if none.
func (p *scrapes) spareLocked(newcomer *scrape) int {
	held := make(map[string]int)
	for _, t := range p.taken {
		held[t.host]++
	}
	spare := 0
	for i, t := range p.taken {
		if held[t.host] > held[p.taken[spare].host] {
			spare = i
		}
	}
	t := p.taken[spare]
	greedy := t.host != newcomer.host && 2*held[t.host] > p.limit
	if greedy || newcomer.since.Sub(t.since) >= unhurried {
		return spare
	}
	return -1
}

// leave gives a place back.
func (p *scrapes) leave(mine *scrape) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.taken, mine); i >= 0 {
		p.taken = slices.Delete(p.taken, i, i+1)
	}
	close(mine.left)
}
