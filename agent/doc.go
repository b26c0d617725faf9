// Package agent puts a workspace agent together, for the program worktally-agent
// and for embedding in a workspace binary of one's own.
//
// New checks the options and starts nothing. Run works until its context ends,
// then stops in a fixed order: no new sessions, open ones drained, stop scripts,
// the last report, the final lifecycle state, the session with the server, and
// the metrics page last. There are no globals, no flags and no process-wide
// effects; several agents in one process do not know of each other.
package agent
