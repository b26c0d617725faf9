// Package agentgit holds the helpers that git reaches in a workspace through the
// agent's binary: GIT_ASKPASS, which answers with credentials that the server
// keeps, and GIT_SSH_COMMAND, which runs ssh with the user's key from the server
// (contract agent-cli.md section 5). Both are programs of their own: they take
// arguments, environment and streams, and return an exit code.
package agentgit
