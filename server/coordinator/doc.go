// Package coordinator is the Tailnet service: who may talk to whom. Each peer
// holds one Coordinate stream; the coordinator passes on the node that a peer
// announces to those it shares a tunnel with, and to nobody else (contract
// agent-api.md section 5).
//
// The state is in memory and belongs to this process. One mutex guards it; what
// a peer is told goes through a bounded queue of its own, so that one that does
// not read holds up nobody. When its queue is full it is removed and its session
// ended.
package coordinator
