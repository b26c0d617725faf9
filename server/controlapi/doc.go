// Package controlapi is the HTTP API for people. Under /api/worktally/v1 are users,
// workspaces and tokens, for our own commands, and what control planes and CI jobs
// tell of templates, builds and jobs, with an OpenAPI document made from the types
// that are decoded and encoded; under /api/v2 is what clients ask
// for that know nothing of us (contract client-api.md): who somebody is, what
// workspaces there are, how an agent is reached, and the Tailnet service over a
// websocket. Beside them are the probe /healthz and /api/v2/buildinfo.
//
// Requests carry a user's token as Coder-Session-Token header, as cookie
// coder_session_token or as Authorization: Bearer. Administrators reach
// everything; others reach themselves and their own workspaces, and learn
// nothing about anybody else's: it answers like what does not exist. Bodies are
// bounded; errors are wire.Error.
//
// The requests that last (connections of clients, watches, logs that are followed)
// are known: they end with the right to them, which the deletion of a workspace, a
// new token or the deletion of a user takes away, and with Close, which waits for
// them. There are no other goroutines. What the rest of the server has to do after
// a change (end series, drop sessions of agents) it learns through
// Options.OnChange. Timeouts of reading and writing are the HTTP server's.
package controlapi
