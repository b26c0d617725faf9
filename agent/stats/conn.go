package stats

import "github.com/worktally/worktally/internal/appname"

// Conn is one SSH connection: it ties sessions to the forwards beside them.
type Conn struct {
	t *Tally
	// The fields below are guarded by t.mu.
	sessions map[*Session]struct{}
	// seen is the editor that a forward of this connection led to.
	seen *Kind
	// carrier counts for the connection while forwards lead to an editor and no
	// session is there to count for it (ssh -N).
	carrier *record
	// editors is the number of open forwards that lead to an editor.
	editors int
}

// OpenConn starts a connection. Nothing is counted yet.
func (t *Tally) OpenConn() *Conn {
	return &Conn{t: t, sessions: make(map[*Session]struct{})}
}

// Forward is one forwarded channel.
type Forward struct {
	c     *Conn
	kind  Kind
	known bool
	rec   *record // JetBrains: the channel is the session
	ended bool
}

// OpenForward counts a forwarded channel. A channel to a JetBrains backend is a
// session of its own; a channel to an editor's server tells what the
// connection's sessions are; any other counts for nothing.
func (c *Conn) OpenForward(facts ForwardFacts) *Forward {
	k, known := kindOfProcess(facts)
	f := &Forward{c: c, kind: k, known: known}
	if !known {
		return f
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if k.Family == appname.JetBrains {
		f.rec = c.t.openLocked(k, true, "forward")
		return f
	}
	c.editors++
	c.seen = &k
	carried := c.carrier != nil
	for s := range c.sessions {
		if s.followsForwardsLocked() {
			s.reclassifyLocked(k)
			carried = carried || s.kind.Family == k.Family
		}
	}
	if !carried {
		c.carrier = c.t.openLocked(k, true, "forward")
	}
	return f
}

// Kind returns what the forward leads to; ok is false for an ordinary one.
func (f *Forward) Kind() (k Kind, ok bool) { return f.kind, f.known }

// Counted says whether the channel itself is a session (JetBrains).
func (f *Forward) Counted() bool { return f.known && f.kind.Family == appname.JetBrains }

// Close ends the forward; later calls change nothing.
func (f *Forward) Close(reason EndReason) {
	t := f.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.ended || !f.known {
		return
	}
	f.ended = true
	if f.rec != nil {
		t.endLocked(f.rec, reason)
		return
	}
	f.c.editors--
	if f.c.editors == 0 && f.c.carrier != nil {
		t.endLocked(f.c.carrier, reason)
		f.c.carrier = nil
	}
}
