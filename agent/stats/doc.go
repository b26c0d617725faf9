// Package stats is the tally: what an agent has counted since its state
// directory was created, and what is open now.
//
// It is pure: no I/O, no goroutine, no timer. Whoever observes something calls
// in; whoever shows or reports asks for a Snapshot or cuts a Window. Totals are
// cumulative and never fall; they continue over a restart through Restore.
//
// Facts about a session are gathered elsewhere; which application and family it
// counts for is decided here, in kind.go, and nowhere else. A session is counted
// as opened once, may be reclassified in place while it is open, and is counted
// as ended once with a reason, so that opened = ended + open at every moment.
//
// All methods are safe for concurrent use. Byte counts are atomics; everything
// else shares one mutex that is never held while calling out.
package stats
