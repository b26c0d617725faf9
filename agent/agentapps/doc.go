// Package agentapps watches what a workspace offers and tells the server: the
// health of its apps, the values of its metadata items and the use of its
// resources (contract agent-api.md sections 6.5 to 6.7).
//
// There is one type for each, made to live as long as the agent. Run serves one
// session with the server and returns when the session ends; what is known stays
// for the next session. Update may be called at any time with what a manifest
// says. Run owns all goroutines and processes and waits for them; it must not be
// called again before it has returned.
package agentapps
