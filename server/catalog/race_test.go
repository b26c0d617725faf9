//go:build race

package catalog

// raceEnabled: the race detector makes SQLite thirty times slower.
const raceEnabled = true
