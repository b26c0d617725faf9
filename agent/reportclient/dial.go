package reportclient

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coder/websocket"
	"storj.io/drpc"

	"github.com/worktally/worktally/wire"
)

// dialTimeout bounds one attempt to open a session.
const dialTimeout = 15 * time.Second

// apiVersion is the lowest version that has every call an agent of ours makes,
// so that it is accepted by as many servers as possible: no peer negotiates.
const apiVersion = "2.4"

const maxRedirects = 10

const (
	rpcPath    = "/api/v2/workspaceagents/me/rpc"
	reinitPath = "/api/v2/workspaceagents/me/reinit"
)

// endpoint returns the URL of an endpoint below the access URL.
func (c *Client) endpoint(path string, query url.Values) *url.URL {
	u := c.o.URL.JoinPath(path)
	u.RawQuery = query.Encode()
	return u
}

// header returns the headers of a request: the configured ones and the token,
// as cookie for servers of 2025 and as header for newer ones.
func (c *Client) header(ctx context.Context) (http.Header, error) {
	h := http.Header{}
	if c.o.Header != nil {
		extra, err := c.o.Header(ctx)
		if err != nil {
			return nil, fmt.Errorf("extra headers: %w", err)
		}
		for key, values := range extra {
			h[key] = slices.Clone(values)
		}
	}
	token, err := c.o.Token(ctx)
	if err != nil {
		return nil, fmt.Errorf("agent token: %w", err)
	}
	h.Set(wire.TokenHeader, token)
	h.Add("Cookie", (&http.Cookie{Name: wire.TokenCookie, Value: token}).String())
	return h, nil
}

// dial opens a session. The connection lives until it is closed.
func (c *Client) dial(ctx context.Context) (drpc.Conn, error) {
	h, err := c.header(ctx)
	if err != nil {
		return nil, err
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	u := c.endpoint(rpcPath, url.Values{"version": {apiVersion}, "role": {"agent"}})
	ws, resp, err := websocket.Dial(dialCtx, u.String(), &websocket.DialOptions{
		HTTPClient: c.o.HTTPClient, HTTPHeader: h, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, dialError(u, resp, err)
	}
	ws.SetReadLimit(-1) // it is a byte stream; messages mean nothing
	return wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
}

// dialError says what the server answered, if it answered.
func dialError(u *url.URL, resp *http.Response, err error) error {
	bare := *u
	bare.RawQuery = ""
	where := bare.Redacted()
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("open session with %s: %w", where, err)
	}
	return fmt.Errorf("open session with %s: %s", where, answerText(resp))
}

// withoutLeaks returns a client that does what c does and keeps the token from
// other hosts that the server redirects to. The library itself does so for
// cookies only.
func withoutLeaks(c *http.Client, home *url.URL) *http.Client {
	careful := *c
	careful.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Hostname() != home.Hostname() {
			r.Header.Del(wire.TokenHeader)
		}
		if c.CheckRedirect != nil {
			return c.CheckRedirect(r, via)
		}
		if len(via) >= maxRedirects {
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		}
		return nil
	}
	return &careful
}

// answerText reads what an unsuccessful answer says.
func answerText(resp *http.Response) string {
	text := resp.Status
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what can be read says enough
	_ = resp.Body.Close()
	var e wire.Error
	if mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mediaType == "application/json" && json.Unmarshal(body, &e) == nil {
		text += ": " + e.Message
		if e.Detail != "" {
			text += " (" + e.Detail + ")"
		}
		for _, v := range e.Validations {
			text += "; " + v.Field + ": " + v.Detail
		}
	}
	return text
}
