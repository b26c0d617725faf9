// Package gitauth keeps what git in workspaces needs of the people who own them:
// tokens for their accounts at external providers (GitHub, GitLab and the like,
// by OAuth 2), and an SSH key for each person.
//
// Everything secret is sealed with AES-GCM before it reaches the database, and
// bound to its row. Tokens are refreshed before they end; a lease in the database
// makes sure that only one of all who ask, on all replicas, uses up a refresh
// token. Calls to providers are bounded in time and size, never follow redirects
// (they carry secrets), and are counted: coderd_oauth2_external_requests_* of
// contract metrics.md section 2.8. No secret is in an error or a log line.
//
// There are no goroutines; calls work in the goroutine of the caller.
package gitauth
