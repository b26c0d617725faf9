// Package activity knows which people are active: who called the API with a
// token, and who owns a workspace in which a session was open. Both are kept in
// the database, one row for each person, so every replica of a server counts
// alike, and counts right from its start on.
//
// Calls are noted in memory and written by Run, at most once a minute for each
// person; what is not yet written is written at the end. Sessions come from the
// minutes of the ledger's history: every minute Run reads the newest two hours
// and, in turn, one of those for which windows may still arrive late.
package activity
