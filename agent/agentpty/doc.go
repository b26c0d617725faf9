// Package agentpty serves reconnecting terminals (contract ssh-and-pty.md
// section 6): a client names a terminal by an ID of its choice, loses its
// connection, comes back with the same ID and finds the terminal as it left it.
//
// A terminal outlives its connections through a backend: "buffered" keeps one
// process and replays its last output, "screen" leaves the keeping to GNU screen
// and runs one screen client for each connection. A terminal nobody is attached
// to ends after a while.
//
// Output is paced by the attached clients, as a serial line would do it, but no
// client can stop the others: one that takes nothing for a while is
// disconnected and counted.
//
// The Server owns its connections, processes and goroutines; Close ends and
// awaits them. Who may connect is the business of the listener.
package agentpty
