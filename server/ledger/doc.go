// Package ledger stores what agents report so that no count is lost or doubled.
//
// Commit hands a submission to the one goroutine that writes, Run, which puts
// whatever is waiting into one transaction, and returns after the commit. What
// an agent sends are totals within an epoch; the difference to the stored totals
// is taken inside the transaction and guarded by the sequence, so a resend
// changes nothing, whatever process it reaches. The same transaction adds the
// differences to the deployment's totals, which never expire, marks the minutes
// in the history, and replaces the agent's newest state.
//
// Several processes may share one PostgreSQL database: the agent's row has a
// revision that every write compares and increments, and a write that comes too
// late reads again. Transactions take rows in one order (agents by key, then the
// deployment's by name), so they cannot wait for each other in a circle.
//
// The ledger trusts the caller for names, sizes and identity, and nobody for
// sequences, totals and times. It exposes nothing itself: who shows totals
// rebuilds them with Load at start and applies each Outcome.
package ledger
