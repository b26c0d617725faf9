// Package agentssh is the SSH server of a workspace: commands, shells and
// terminals, SFTP, forwarded ports, sockets, agents and X11, as the contract has
// it (ssh-and-pty.md sections 1, 3 and 5).
//
// A Server owns everything that a connection brings to life: its goroutines, its
// processes, its listeners and temporary files. Close ends them and waits. One
// goroutine per channel answers the channel's requests and never blocks; a
// second one runs the session. A process without a terminal outlives its client
// (editors count on it) and is hung up when the server closes.
//
// What a session counts as is decided in package stats from the facts gathered
// here: the client's marker, the command, the first input of a bare shell, and
// the process behind a forwarded port.
package agentssh
