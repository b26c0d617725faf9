package stats

// Path is how bytes travelled.
type Path string

// The paths.
const (
	// PathP2P and PathDERP count whole IP packets of the tailnet: directly between
	// the peers, or over a relay.
	PathP2P  Path = "p2p"
	PathDERP Path = "derp"
	// PathTCP counts the payload of plain TCP listeners.
	PathTCP Path = "tcp"
	// PathUnix counts the payload of unix sockets.
	PathUnix Path = "unix"
)

func paths() [4]Path { return [...]Path{PathDERP, PathP2P, PathTCP, PathUnix} }

// EndReason says why a session ended.
type EndReason string

// The end reasons.
const (
	// EndExited: the command ended by itself, or the peer closed in order.
	EndExited EndReason = "exited"
	// EndFailed: the session was refused or its command could not be started.
	EndFailed EndReason = "failed"
	// EndDisconnected: the client went away before the end.
	EndDisconnected EndReason = "disconnected"
	// EndTimedOut: the client answered no keepalive.
	EndTimedOut EndReason = "timed_out"
	// EndShutdown: the agent closed.
	EndShutdown EndReason = "shutdown"
)

// SessionError is a value of error_type of agent_sessions_errors_total.
type SessionError string

// The session errors (contract metrics.md section 11.1).
const (
	ErrContainerEnvInfo   SessionError = "container_env_info"
	ErrCreateCommand      SessionError = "create_command"
	ErrListener           SessionError = "listener"
	ErrStdinPipe          SessionError = "stdin_pipe"
	ErrStdinIOCopy        SessionError = "stdin_io_copy"
	ErrStartCommand       SessionError = "start_command"
	ErrAnnouncementBanner SessionError = "announcement_banner"
	ErrMOTD               SessionError = "motd"
	ErrClose              SessionError = "close"
	ErrResize             SessionError = "resize"
	ErrInputIOCopy        SessionError = "input_io_copy"
	ErrOutputIOCopy       SessionError = "output_io_copy"
	ErrWait               SessionError = "wait"
	ErrSignal             SessionError = "signal"
)

// X11Error is a value of error_type of agent_x11_handler_errors_total.
type X11Error string

// The X11 errors.
const (
	X11Hostname   X11Error = "hostname"
	X11Listen     X11Error = "listen"
	X11Xauthority X11Error = "xauthority"
)

// TerminalError is a value of error_type of agent_reconnecting_pty_errors_total.
type TerminalError string

// The errors of reconnecting terminals.
const (
	TerminalCreateCommand      TerminalError = "create_command"
	TerminalOutputReader       TerminalError = "output_reader"
	TerminalWriteBuffer        TerminalError = "write_buffer"
	TerminalWrite              TerminalError = "write"
	TerminalResize             TerminalError = "resize"
	TerminalInputWriter        TerminalError = "input_writer"
	TerminalScreenSpawn        TerminalError = "screen_spawn"
	TerminalScreenOutputReader TerminalError = "screen_output_reader"
	TerminalScreenWrite        TerminalError = "screen_write"
	TerminalScreenWait         TerminalError = "screen_wait"
)

// Stage is when a script ran.
type Stage string

// The stages.
const (
	StageStart Stage = "start"
	StageStop  Stage = "stop"
	StageCron  Stage = "cron"
)

// ScriptStatus is how a script run ended.
type ScriptStatus string

// The script statuses; the first four are those of the wire.
const (
	ScriptOK            ScriptStatus = "ok"
	ScriptExitFailure   ScriptStatus = "exit_failure"
	ScriptTimedOut      ScriptStatus = "timed_out"
	ScriptPipesLeftOpen ScriptStatus = "pipes_left_open"
	// ScriptNotStarted: the shell, its log file or its schedule was unusable.
	ScriptNotStarted ScriptStatus = "not_started"
)

// Dropped names a bounded place that had to throw something away.
type Dropped string

// The places.
const (
	DropScriptOutput      Dropped = "script_output"
	DropLogLines          Dropped = "log_lines"
	DropConnectionReports Dropped = "connection_reports"
	DropSignals           Dropped = "signals"
	DropReportHistory     Dropped = "report_history"
	DropScriptTimings     Dropped = "script_timings"
	DropReportRefused     Dropped = "report_refused"
	DropLifecycle         Dropped = "lifecycle_states"
	DropTerminals         Dropped = "terminals"
	DropSSHConnections    Dropped = "ssh_connections"
	DropSSHHandshakes     Dropped = "ssh_handshakes"
	DropAccepts           Dropped = "not_accepted"
	DropSSHEnvironment    Dropped = "ssh_environment"
	DropScrapes           Dropped = "scrapes"
	DropForwards          Dropped = "forwards"
	DropFlows             Dropped = "flows"
)
