// Package sqldb opens the server's database and migrates it. The same SQL text
// runs on SQLite and on PostgreSQL: placeholders are $1, $2, ..., times are
// BIGINT microseconds since 1970, identifiers are TEXT, truth values are BIGINT
// 0 or 1, and columns of bytes are declared as {{blob}} in migrations.
//
// A DB owns its connections until Close. SQLite has one connection that writes,
// whose transactions take the write lock when they begin, and several that only
// read; PostgreSQL has one pool for both. Everything may be used concurrently.
//
// The package knows no table of its users, and it never shows a data source
// name in an error: the name may hold a password.
package sqldb
