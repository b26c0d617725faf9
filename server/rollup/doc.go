// Package rollup computes the rows of the metrics page that are about the whole
// deployment: builds, jobs and latest builds from the catalog, and how templates
// are used from the history in the ledger.
//
// It never works for a scrape: rows are made in the background, of builds within a
// second of a change and at least every minute, of insights every minute, and Rows
// hands out the last good ones. They come from the database alone, so every server
// on one database shows the same, and a restart changes nothing. If the database
// fails the rows stay as they are, and a counter counts.
package rollup
