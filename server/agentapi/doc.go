// Package agentapi is the Agent service: it lets agents in, answers their calls,
// and takes their reports in. It checks what they send, hands it to the ledger,
// and acknowledges what is committed and nothing else.
//
// It serves agents of ours and unmodified ones alike (contract agent-api.md).
// Nothing an agent leaves out or gets wrong may crash it or touch another agent:
// a bad series is dropped and counted by reason, the rest of the report counts.
//
// A Service belongs to the process. Each session runs on the goroutines of its
// HTTP request; Run owns the rest, which is one goroutine that writes heartbeats
// in batches.
package agentapi
