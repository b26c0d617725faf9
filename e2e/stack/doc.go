// Package stack runs the real programs on loopback, as a user would, for the demo
// and for the end-to-end tests: a server, agents with a counting proxy in front of
// their listeners, OpenSSH clients, and the metrics pages as maps of samples.
//
// A Stack owns the processes it starts: Close ends and waits for all of them. Its
// methods may be used by one goroutine; Programs, Pages and SSH commands by many.
package stack
