// Package wire is what the two sides of the protocol share: the transport
// (websocket -> yamux -> one dRPC stream per call), version negotiation, tokens
// in requests, error bodies, and small rules about messages. The messages are in
// wire/agentpb, wire/tailnetpb and, for what two Worktally peers say to each
// other beyond the stock protocol, wire/worktallypb.
//
// Facts come from the contract (agent-api.md sections 1 to 5); the recorded
// sessions under testdata/vectors are replayed against this package.
package wire
