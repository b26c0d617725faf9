// Package agentexec decides how a command of the workspace is started: the
// user, the shell, the environment, the directory and the priority. SSH,
// terminals, scripts and metadata share it, so that a command behaves the same
// whoever asks for it (contract ssh-and-pty.md section 4).
//
// It builds an *exec.Cmd and starts nothing; process groups, pipes and terminals
// belong to the caller. A Builder may be used from any goroutine.
package agentexec
