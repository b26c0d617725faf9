// Package reportclient is everything an agent says to its server: the session
// (websocket, yamux, dRPC) with its reconnects, the manifest, lifecycle states,
// logs, connection reports, script timings and banners, and above all the
// reports of what was counted.
//
// A report is cumulative. The reporter cuts a window of the tally every interval
// and puts it as a record into the outbox; a record leaves the outbox when the
// server has acknowledged it. Towards a Worktally server the newest totals go
// first and the history of gauges follows, resent until acknowledged; the server
// takes the difference to what it knows, so that nothing is lost or doubled.
// Towards a stock server one merged report carries what is new since the last
// one that this server answered.
//
// Everything the agent wants to tell is put into a bounded queue of the Client,
// which outlives sessions. Run owns all goroutines and returns after they ended.
package reportclient
