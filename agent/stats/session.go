package stats

import (
	"time"

	"github.com/worktally/worktally/internal/appname"
)

// record is one open session in the books.
type record struct {
	kind   Kind
	firm   bool
	opened time.Time
}

// openLocked enters a session into the books.
func (t *Tally) openLocked(k Kind, firm bool, via string) *record {
	r := &record{kind: k, firm: firm, opened: time.Now()}
	t.open[r] = struct{}{}
	t.c.opened[via].n++
	return r
}

// endLocked takes it out.
func (t *Tally) endLocked(r *record, reason EndReason) {
	if _, ok := t.open[r]; !ok {
		return
	}
	delete(t.open, r)
	f := appname.Gauge(r.kind.Family)
	c, ok := t.c.ended[endKey{f, reason}]
	if !ok {
		c = t.c.ended[endKey{f, EndFailed}]
	}
	c.n++
	t.c.sessionLength[f].observe(time.Since(r.opened))
}

// Session is one SSH session or one attachment to a reconnecting terminal.
type Session struct {
	t    *Tally
	conn *Conn
	pty  bool
	// The fields below are guarded by t.mu.
	kind Kind
	firm bool
	rec  *record // nil: tracked by a channel, or ended
	// stdinLeft is how many bytes of input may still be searched; tail are the
	// last ones of the previous chunk.
	stdinLeft int
	tail      []byte
	ended     bool
}

// OpenSession counts a session of the connection.
func (c *Conn) OpenSession(f SessionFacts) *Session {
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	kind, firm := kindOfSession(f)
	s := &Session{t: t, conn: c, pty: f.PTY, kind: kind, firm: firm}
	if !f.PTY && f.Command == "" && f.Subsystem == "" {
		s.stdinLeft = stdinLimit
	}
	if s.followsForwardsLocked() && c.seen != nil {
		s.kind = refine(s.kind, s.firm, *c.seen)
	}
	c.sessions[s] = struct{}{}
	if s.kind.TrackedByChannel() {
		return s
	}
	if c.carrier != nil && s.followsForwardsLocked() {
		s.rec, c.carrier = c.carrier, nil
		s.rec.kind, s.rec.firm = s.kind, s.firm
		return s
	}
	s.rec = t.openLocked(s.kind, s.firm, "ssh")
	return s
}

// OpenTerminal counts an attachment to a reconnecting terminal, from accept.
func (t *Tally) OpenTerminal() *Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.c.terminalConns.n++
	k := kindOf("reconnecting_pty")
	return &Session{t: t, kind: k, firm: true, pty: true, rec: t.openLocked(k, true, "terminal")}
}

// followsForwardsLocked says whether what the connection's forwards lead to
// tells what this session is: an editor's helper shell has no terminal.
func (s *Session) followsForwardsLocked() bool { return !s.pty && s.conn != nil }

// Kind returns what the session counts as now.
func (s *Session) Kind() Kind {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	return s.kind
}

// ObserveStdin lets the session see input of a bare shell. It copies nothing
// but a few bytes and costs nothing once the limit is reached.
func (s *Session) ObserveStdin(p []byte) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.stdinLeft == 0 || len(p) == 0 {
		return
	}
	p = p[:min(len(p), s.stdinLeft)]
	s.stdinLeft -= len(p)
	text := append(s.tail, p...)
	if app, ok := appOfText(text); ok {
		s.reclassifyLocked(kindOf(app))
		s.stdinLeft = 0
	}
	s.tail = nil
	if s.stdinLeft > 0 {
		s.tail = append(s.tail, text[max(0, len(text)-longestServerDir):]...)
	}
}

// WantsStdin says whether ObserveStdin still has a use.
func (s *Session) WantsStdin() bool {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	return s.stdinLeft > 0
}

func (s *Session) reclassifyLocked(seen Kind) {
	s.kind = refine(s.kind, s.firm, seen)
	if s.rec != nil {
		s.rec.kind = s.kind
	}
}

// Started counts that the session's command or shell runs.
func (s *Session) Started() {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.t.counters.add("agent_sessions_total", "magic_type", s.kind.MagicType(), "pty", yesNo(s.pty)).n++
}

// Failed counts an error of the session.
func (s *Session) Failed(e SessionError) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	pty := yesNo(s.pty || e == ErrSignal) // signals are filed under pty=yes, as the contract has it
	s.t.counters.add("agent_sessions_errors_total",
		"magic_type", s.kind.MagicType(), "pty", pty, "error_type", string(e)).n++
}

// Close ends the session; later calls change nothing.
func (s *Session) Close(reason EndReason) {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	if s.conn != nil {
		delete(s.conn.sessions, s)
	}
	if s.rec != nil {
		s.t.endLocked(s.rec, reason)
		s.rec = nil
	}
	s.stdinLeft, s.tail = 0, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
