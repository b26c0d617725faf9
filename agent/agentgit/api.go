package agentgit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/worktally/worktally/wire"
)

// maxAnswer bounds an answer of the server.
const maxAnswer = 1 << 20

// errNotFound is the server's 404.
var errNotFound = errors.New("not found")

// api is the server as the helpers see it.
type api struct {
	base   *url.URL
	token  string
	client *http.Client
}

// newAPI takes the server from the environment that the agent gives its children.
func newAPI(getenv func(string) string, client *http.Client) (*api, error) {
	address, token := getenv("CODER_AGENT_URL"), getenv("CODER_AGENT_TOKEN")
	if address == "" || token == "" {
		return nil, errors.New("CODER_AGENT_URL and CODER_AGENT_TOKEN must be set; is this a child of the agent?")
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("CODER_AGENT_URL: %q is not the URL of a server", address)
	}
	if client == nil {
		client = http.DefaultClient
	}
	// A redirect would carry the token to whoever it names.
	careful := *client
	careful.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &api{base: base, token: token, client: &careful}, nil
}

// get asks the agent's own endpoint and decodes the answer into out.
func (a *api) get(ctx context.Context, endpoint string, query url.Values, out any) error {
	u := a.base.JoinPath("api/v2/workspaceagents/me", endpoint)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	r.Header.Set(wire.TokenHeader, a.token)
	resp, err := a.client.Do(r)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("the server answered %s: %s", resp.Status, message(resp.Header, body))
		if resp.StatusCode == http.StatusNotFound {
			err = fmt.Errorf("%w: %w", errNotFound, err)
		}
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// message returns what an error answer says, in one short line.
func message(h http.Header, body []byte) string {
	text := string(body)
	if kind, _, err := mime.ParseMediaType(h.Get("Content-Type")); err == nil && kind == "application/json" {
		var e struct{ Message, Detail string }
		if json.Unmarshal(body, &e) == nil {
			text = strings.TrimSpace(e.Message + " " + e.Detail)
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = text[:300] + "..."
	}
	return text
}

// credentials is what the server knows about a git provider. Either URL says
// where the user must go first, or the others are set.
type credentials struct {
	AccessToken string `json:"access_token"`
	URL         string `json:"url"`
	Username    string `json:"username"`
	Password    string `json:"password"`
}

// keyPair is the user's key for git.
type keyPair struct {
	PublicKey  string `json:"public_key"`
	PrivateKey string `json:"private_key"`
}
