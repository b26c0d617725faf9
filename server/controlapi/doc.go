// Package controlapi is the HTTP API for people: users, workspaces and tokens
// under /api/worktally/v1, the probe /healthz and /api/v2/buildinfo.
//
// Requests carry a user's token as Coder-Session-Token header, as cookie
// coder_session_token or as Authorization: Bearer. Administrators reach
// everything; others reach themselves and their own workspaces, and learn
// nothing about anybody else's. Bodies are bounded; errors have the form
// {"message", "detail", "validations": [{"field", "detail"}]}.
//
// The handler starts no goroutine and keeps no sessions. What the rest of the
// server has to do after a change (end series, drop sessions) it learns through
// Options.OnChange. Timeouts of reading and writing are the HTTP server's.
package controlapi
