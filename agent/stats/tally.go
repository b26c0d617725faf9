package stats

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/worktally/worktally/internal/appname"
)

// Options of a Tally. The zero value is usable.
type Options struct {
	// ByteWindow is the span of the rx and tx gauges. 0 means 60 s.
	ByteWindow time.Duration
}

// Tally counts for one agent. Create it with New.
type Tally struct {
	byteWindow time.Duration
	paths      map[Path]*pathBytes
	// window is the number of the current report window, from 1. A flow compares
	// it with the window in which it last saw traffic.
	window atomic.Uint64
	shards [flowShards]flowShard

	// mu guards everything below.
	mu       sync.Mutex
	counters counters
	c        named
	open     map[*record]struct{}
	flows    map[*Flow]struct{}
	// endedFlows counts the flows, by protocol, that had traffic in the current
	// window and are closed already.
	endedFlows  map[string]int64
	windowStart time.Time
	// cutRx and cutTx are the byte totals at the last cut.
	cutRx, cutTx uint64
	recent       []windowBytes
	last         lastWindow
	startup      *Startup
	peers        Peers
}

// named are the counters by their use.
type named struct {
	opened, scripts, sftp               map[string]*counter
	ended                               map[endKey]*counter
	sessionLength                       map[appname.Family]*histogram
	scriptLength                        map[Stage]*histogram
	roundTrips                          map[Path]*histogram
	scriptRuns                          map[runKey]*counter
	scriptOverlap                       *counter
	failedConns, sftpConns, sftpErrors  *counter
	terminalConns                       *counter
	x11Errors, terminalErrors, droppeds map[string]*counter
}

type endKey struct {
	family appname.Family
	reason EndReason
}

type runKey struct {
	stage  Stage
	status ScriptStatus
}

// New returns an empty tally whose first window starts now.
func New(o Options) *Tally {
	if o.ByteWindow <= 0 {
		o.ByteWindow = time.Minute
	}
	t := &Tally{
		byteWindow:  o.ByteWindow,
		paths:       make(map[Path]*pathBytes),
		open:        make(map[*record]struct{}),
		flows:       make(map[*Flow]struct{}),
		endedFlows:  make(map[string]int64),
		windowStart: time.Now(),
	}
	t.window.Store(1)
	for _, p := range paths() {
		t.paths[p] = new(pathBytes)
	}
	for i := range t.shards {
		t.shards[i].flows = make(map[flowKey]*Flow)
	}
	t.declare()
	return t
}

// declare creates every series of a fixed vocabulary at 0, so that increase()
// sees the first event.
func (t *Tally) declare() {
	cs, c := &t.counters, &t.c
	c.opened = cs.vec("agent_sessions_opened_total", "via", "ssh", "forward", "terminal")
	c.scripts = cs.vec("agent_scripts_executed_total", "success", "false", "true")
	c.failedConns = cs.add("agent_ssh_server_failed_connections_total")
	c.sftpConns = cs.add("agent_ssh_server_sftp_connections_total")
	c.sftpErrors = cs.add("agent_ssh_server_sftp_server_errors_total")
	c.terminalConns = cs.add("agent_reconnecting_pty_connections_total")
	c.scriptOverlap = cs.add("agent_scripts_skipped_total", "reason", "overlap")
	c.x11Errors = cs.vec("agent_x11_handler_errors_total", "error_type",
		string(X11Hostname), string(X11Listen), string(X11Xauthority))
	c.terminalErrors = cs.vec("agent_reconnecting_pty_errors_total", "error_type",
		string(TerminalCreateCommand), string(TerminalOutputReader), string(TerminalWriteBuffer), string(TerminalWrite),
		string(TerminalResize), string(TerminalInputWriter), string(TerminalScreenSpawn),
		string(TerminalScreenOutputReader), string(TerminalScreenWrite), string(TerminalScreenWait))
	c.droppeds = cs.vec("agent_dropped_total", "what",
		string(DropScriptOutput), string(DropLogLines), string(DropConnectionReports), string(DropSignals),
		string(DropReportHistory), string(DropScriptTimings), string(DropReportRefused), string(DropLifecycle),
		string(DropTerminals), string(DropSSHConnections), string(DropSSHHandshakes), string(DropSSHEnvironment),
		string(DropScrapes), string(DropForwards), string(DropFlows), string(DropAccepts))
	c.ended = make(map[endKey]*counter)
	c.sessionLength = make(map[appname.Family]*histogram)
	for _, f := range gaugeFamilies() {
		for _, r := range []EndReason{EndExited, EndFailed, EndDisconnected, EndTimedOut, EndShutdown} {
			c.ended[endKey{f, r}] = cs.add("agent_sessions_ended_total", "family", string(f), "reason", string(r))
		}
		c.sessionLength[f] = newHistogram(cs, "agent_session_duration_seconds",
			[]float64{10, 60, 600, 3600, 28800}, "family", string(f))
	}
	c.roundTrips = make(map[Path]*histogram)
	for _, p := range []Path{PathDERP, PathP2P} {
		c.roundTrips[p] = newHistogram(cs, "agent_peer_round_trip_seconds",
			[]float64{0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1}, "path", string(p))
	}
	c.scriptLength = make(map[Stage]*histogram)
	c.scriptRuns = make(map[runKey]*counter)
	for _, s := range []Stage{StageStart, StageStop, StageCron} {
		for _, st := range []ScriptStatus{ScriptOK, ScriptExitFailure, ScriptTimedOut, ScriptPipesLeftOpen, ScriptNotStarted} {
			c.scriptRuns[runKey{s, st}] = cs.add("agent_script_runs_total", "stage", string(s), "status", string(st))
		}
		c.scriptLength[s] = newHistogram(cs, "agent_script_duration_seconds",
			[]float64{0.1, 1, 10, 60, 300, 1800}, "stage", string(s))
	}
}

// gaugeFamilies are the families of the four compatible gauges.
func gaugeFamilies() [4]appname.Family {
	return [...]appname.Family{appname.SSH, appname.VSCode, appname.JetBrains, appname.ReconnectingPTY}
}

// Restore continues the totals of an earlier process of the same epoch. Series
// that this version does not know are carried along unchanged, so that no total
// ever falls. What was counted before the call is added. Call it once.
func (t *Tally) Restore(totals []Series) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range totals {
		if t.restoreBytes(s) {
			continue
		}
		c := t.counters.addSeries(s)
		c.base += s.Value
	}
	// What was restored belongs to no window of this process.
	rx, tx := sumBytes(totals)
	t.cutRx, t.cutTx = t.cutRx+rx, t.cutTx+tx
}

func (t *Tally) inc(c *counter) {
	t.mu.Lock()
	c.n++
	t.mu.Unlock()
}
