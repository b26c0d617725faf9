package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/worktally/worktally/internal/clienttls"
	"github.com/worktally/worktally/wire"
)

const (
	// requestTimeout bounds one request.
	requestTimeout = 30 * time.Second
	// maxAnswer bounds an answer, in bytes.
	maxAnswer = 64 << 20
)

// connection is the part of the command line that says which server to talk to,
// and as whom. There is no flag for the token itself: others can read the
// arguments of a process.
type connection struct {
	URL       string `name:"url" placeholder:"URL" envs:"WORKTALLY_URL,CODER_URL" help:"The server, such as http://127.0.0.1:3000."`
	TokenFile string `name:"token-file" placeholder:"FILE" envs:"WORKTALLY_TOKEN_FILE" help:"File that holds your token; without it the token comes from $WORKTALLY_TOKEN or $CODER_SESSION_TOKEN."`
	TLSCA     string `name:"tls-ca-file" placeholder:"FILE" envs:"WORKTALLY_TLS_CA_FILE" help:"Certificates of authorities that are trusted for the server and relays beside the system's."`
	TLSCert   string `name:"tls-client-cert-file" placeholder:"FILE" envs:"WORKTALLY_TLS_CLIENT_CERT_FILE" help:"Certificate to show to servers that ask for one, read for every connection."`
	TLSKey    string `name:"tls-client-key-file" placeholder:"FILE" envs:"WORKTALLY_TLS_CLIENT_KEY_FILE" help:"Key of that certificate."`
}

// caller talks to the server's API for people.
type caller struct {
	ctx    context.Context
	base   *url.URL
	token  secret
	client *http.Client
}

// secret does not print itself.
type secret string

// String hides the secret.
func (secret) String() string { return "(hidden)" }

// open checks the flags and returns the caller.
func (c connection) open(p *program) (*caller, error) {
	if c.URL == "" {
		return nil, usagef("no server: want --url, $WORKTALLY_URL or $CODER_URL")
	}
	base, err := url.Parse(c.URL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, usagef("--url: want a URL that begins with http:// or https://")
	}
	token, err := c.token(p)
	if err != nil {
		return nil, err
	}
	transport, err := clienttls.Files{CA: c.TLSCA, Cert: c.TLSCert, Key: c.TLSKey}.Transport()
	if err != nil {
		return nil, usagef("--tls-ca-file, --tls-client-cert-file, --tls-client-key-file: %v", err)
	}
	return &caller{ctx: p.ctx, base: base, token: token, client: &http.Client{
		Transport: transport, Timeout: requestTimeout,
		// A redirect would carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c connection) token(p *program) (secret, error) {
	if c.TokenFile != "" {
		text, err := os.ReadFile(c.TokenFile)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		if token := strings.TrimSpace(string(text)); token != "" {
			return secret(token), nil
		}
		return "", fmt.Errorf("read the token: %s is empty", c.TokenFile)
	}
	for _, name := range []string{"WORKTALLY_TOKEN", "CODER_SESSION_TOKEN"} {
		if token := strings.TrimSpace(p.getenv(name)); token != "" {
			return secret(token), nil
		}
	}
	return "", usagef("no token: want --token-file, $WORKTALLY_TOKEN_FILE, $WORKTALLY_TOKEN or $CODER_SESSION_TOKEN")
}

// apiError is an error that the server answered with.
type apiError struct {
	status  int
	problem wire.Error
}

// Error returns the message and everything that is said about it.
func (e *apiError) Error() string {
	text := strings.TrimSuffix(e.problem.Message, ".")
	if e.problem.Detail != "" {
		text += ": " + e.problem.Detail
	}
	for _, v := range e.problem.Validations {
		text += fmt.Sprintf("\n%s: %s", v.Field, v.Detail)
	}
	return text
}

// do sends a request and decodes the answer into out, if that is not nil. Path
// elements are escaped.
func (c *caller) do(method string, body []byte, out any, path ...string) error {
	return c.send(method, bytes.NewReader(body), out, path...)
}

// send is do with a body that may be read as it is sent.
func (c *caller) send(method string, body io.Reader, out any, path ...string) error {
	for i := range path {
		path[i] = url.PathEscape(path[i])
	}
	target := c.base.JoinPath(append([]string{"api", "worktally", "v1"}, path...)...)
	req, err := http.NewRequestWithContext(c.ctx, method, target.String(), body)
	if err != nil {
		return err
	}
	req.Header.Set(wire.TokenHeader, string(c.token))
	res, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if res.StatusCode >= 300 {
		return answerError(res, text)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

func answerError(res *http.Response, text []byte) error {
	e := &apiError{status: res.StatusCode}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind == "application/json" && json.Unmarshal(text, &e.problem) == nil && e.problem.Message != "" {
		return e
	}
	return errors.New("the server answered " + res.Status + "; is --url the address of a worktally server?")
}

// writeJSON prints a value for scripts.
func (p *program) writeJSON(v any) error {
	enc := json.NewEncoder(p.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
