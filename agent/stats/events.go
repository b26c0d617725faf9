package stats

import "time"

// ScriptRun is one ended run of a script.
type ScriptRun struct {
	Stage    Stage
	Status   ScriptStatus
	Duration time.Duration
}

// ScriptRan counts a run that came to its end, whatever the end. Success is
// status ok and nothing else.
func (t *Tally) ScriptRan(r ScriptRun) {
	t.mu.Lock()
	defer t.mu.Unlock()
	success := "false"
	if r.Status == ScriptOK {
		success = "true"
	}
	t.c.scripts[success].n++
	if c := t.c.scriptRuns[runKey{r.Stage, r.Status}]; c != nil {
		c.n++
	}
	if h := t.c.scriptLength[r.Stage]; h != nil {
		h.observe(r.Duration)
	}
}

// ScriptOverlapped counts a due run that was not started because the script was
// still running.
func (t *Tally) ScriptOverlapped() { t.inc(t.c.scriptOverlap) }

// Startup is the result of the start phase.
type Startup struct {
	Duration time.Duration
	Success  bool
}

// StartPhaseEnded sets the result of the start phase: the time from the launch
// of all start scripts to the end of the last.
func (t *Tally) StartPhaseEnded(s Startup) {
	t.mu.Lock()
	t.startup = &s
	t.mu.Unlock()
}

// SSHHandshakeFailed counts a connection that never became an SSH connection.
func (t *Tally) SSHHandshakeFailed() { t.inc(t.c.failedConns) }

// SFTPOpened counts an SFTP subsystem session.
func (t *Tally) SFTPOpened() { t.inc(t.c.sftpConns) }

// SFTPFailed counts an SFTP session that ended with an error.
func (t *Tally) SFTPFailed() { t.inc(t.c.sftpErrors) }

// X11Failed counts an X11 error.
func (t *Tally) X11Failed(e X11Error) { t.incIn(t.c.x11Errors, string(e)) }

// TerminalFailed counts an error of a reconnecting terminal.
func (t *Tally) TerminalFailed(e TerminalError) { t.incIn(t.c.terminalErrors, string(e)) }

// Drop counts n things that a bounded place had to throw away.
func (t *Tally) Drop(d Dropped, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.c.droppeds[string(d)]; c != nil && n > 0 {
		c.n += uint64(n)
	}
}

func (t *Tally) incIn(m map[string]*counter, key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := m[key]; c != nil {
		c.n++
	}
}

// Peers is what the last round of pings found.
type Peers struct {
	// MedianLatency is meaningful if Measured > 0.
	MedianLatency time.Duration
	Measured      int
	P2P, DERP     int
	// Control are those of both that have asked only about the agent itself, as the
	// control plane's own peers do.
	Control int
}

// RoundTrip counts a ping of a peer that was answered over the given path.
func (t *Tally) RoundTrip(path Path, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.c.roundTrips[path]; h != nil {
		h.observe(d)
	}
}

// SetPeers replaces what is known about peers.
func (t *Tally) SetPeers(p Peers) {
	t.mu.Lock()
	t.peers = p
	t.mu.Unlock()
}
