// Package exposition is how counts look to Prometheus: one table of metric
// families that the agent's page and the server's page share, so that names,
// help texts and labels cannot drift apart, and direct writers for the text
// format 0.0.4, OpenMetrics 1.0 and protobuf.
//
// A page is put together from rows. A Row is the immutable state of one source,
// usually one agent: its values as text, its identity labels, and a shape, which
// says what series they are and is shared with the rows of other agents. A writer
// walks the table family by family over all rows and copies bytes. Nothing is
// looked up, sorted, formatted or allocated per sample, and a row is swapped as a
// whole, so that a scrape never shows half of a report.
//
// A Builder refuses what would break a page, so that writing cannot fail.
//
// Registries of client_golang serve only what a library brings (go_*, process_*,
// promhttp_*) and what a part of a program counts about itself; their families are
// appended to the page by the same writers.
package exposition
