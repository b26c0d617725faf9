// Package catalog keeps what the server knows about people and workspaces:
// users, workspaces, their agents as asked for (Spec) and as they are
// (AgentState, logs, metadata, script timings, connections), and the tokens of
// both.
//
// It also takes in the events of control planes about templates, builds and jobs,
// in any order and any number of times, and counts what ended, once, in the same
// transaction.
//
// A Catalog holds nothing in memory: every method reads or writes the database,
// so any number of servers may share one, and a deleted token is refused by the
// next call. Methods may be called concurrently. Times that agents tell are
// stored as told; all others are the server's.
//
// Tokens are random, stored as SHA-256 hashes, and returned exactly once: when
// they are made. The catalog decides nothing about sessions.
package catalog
