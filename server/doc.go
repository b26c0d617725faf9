// Package server puts the hub together: stores, the Agent and Tailnet services,
// the API for people, and the metrics page. It decides nothing itself.
//
// New opens the stores and the listeners, so that a server that was created can
// be reached; Run serves until its context ends. Stopping goes from the outside
// in: no new requests, agents' sessions, the writers behind them, the database,
// and the metrics page last.
package server
