package wire

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// pulse pings the peer of a session. It has a goroutine only while a ping is
// under way, because there are thousands of sessions.
type pulse struct {
	cancel  context.CancelCauseFunc
	session *yamux.Session
	o       ServeOptions

	// mu is held while a ping is under way.
	mu    sync.Mutex
	ended bool
	timer *time.Timer
}

// startPulse calls OnPing and then pings until stop. It returns nil if OnPing has
// ended the session.
func startPulse(cancel context.CancelCauseFunc, session *yamux.Session, o ServeOptions) *pulse {
	p := &pulse{cancel: cancel, session: session, o: o}
	if !p.beat() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(o.PingInterval, p.ping)
	return p
}

// stop ends it and waits for a ping that is under way, which the end of the
// session ends.
func (p *pulse) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.timer.Stop()
}

func (p *pulse) ping() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	// Ping waits for yamux's write timeout at most, 10 s.
	if _, err := p.session.Ping(); err != nil {
		p.cancel(fmt.Errorf("%w: %w", ErrPingTimeout, err))
		return
	}
	if p.beat() {
		p.timer.Reset(p.o.PingInterval)
	}
}

func (p *pulse) beat() bool {
	if p.o.OnPing == nil {
		return true
	}
	if err := p.o.OnPing(); err != nil {
		p.cancel(err)
		return false
	}
	return true
}
