// Package republish is the server's metrics page: for each agent one immutable
// row of what it last reported and one of its state, swapped as a whole after
// the commit in the ledger, so that a scrape copies pointers, never waits for a
// report and never shows half of one.
//
// Rows are rebuilt from the ledger at start. They end when the agent goes off,
// when it or its workspace is deleted or renamed, or when it has been silent for
// two report intervals and ten seconds. A lost connection alone ends nothing.
package republish
