// Package exposition is how counts look to Prometheus: one table of metric
// families that the agent's page and the server's page share, so that names,
// help texts and labels cannot drift apart, and direct writers for the text
// format 0.0.4 and OpenMetrics 1.0.
//
// A page is put together from rows. A Row is the immutable, already rendered
// state of one source, usually one agent; a writer walks the table family by
// family over all rows and copies bytes. Nothing is looked up, sorted or
// allocated per sample, and a row is swapped as a whole, so that a scrape never
// shows half of a report.
//
// Registries of client_golang serve only what a library brings (go_*, process_*,
// promhttp_*); their families are appended to the page by the same writers.
package exposition
