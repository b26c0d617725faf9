package wire

import (
	"net/http"
	"strings"
)

// The names under which a session token travels.
const (
	TokenCookie = "coder_session_token"
	TokenHeader = "Coder-Session-Token"
)

// TokenFrom returns the session token of a request, "" if there is none. The
// order is the contract's (agent-api.md section 1.1): cookie, query, header,
// bearer, query.
func TokenFrom(r *http.Request) string {
	if c, err := r.Cookie(TokenCookie); err == nil && c.Value != "" {
		return c.Value
	}
	query := r.URL.Query()
	if t := query.Get(TokenCookie); t != "" {
		return t
	}
	if t := r.Header.Get(TokenHeader); t != "" {
		return t
	}
	if t, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return strings.TrimSpace(t)
	}
	return query.Get("access_token")
}
