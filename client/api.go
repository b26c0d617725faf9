package client

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
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/wire"
)

const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 16 << 20
)

// API is the server as a person sees it (contract client-api.md).
type API struct {
	// URL is the server's. Required.
	URL *url.URL
	// Token is the person's. Required.
	Token string
	// HTTPClient makes the requests; nil means one like http.DefaultClient. Redirects
	// are not followed. If its transport is an *http.Transport its TLS settings are
	// those for relays too.
	HTTPClient *http.Client
}

// Agent is what is known about an agent before it is reached.
type Agent struct {
	ID             uuid.UUID `json:"id"`
	Name           string    `json:"name"`
	Status         string    `json:"status"`
	LifecycleState string    `json:"lifecycle_state"`
}

// Workspace is a workspace with its agents.
type Workspace struct {
	ID          uuid.UUID `json:"id"`
	Name        string    `json:"name"`
	OwnerName   string    `json:"owner_name"`
	LatestBuild struct {
		Transition string `json:"transition"`
		Resources  []struct {
			Agents []Agent `json:"agents"`
		} `json:"resources"`
	} `json:"latest_build"`
}

// Agents returns all agents of the workspace.
func (w Workspace) Agents() []Agent {
	var all []Agent
	for _, r := range w.LatestBuild.Resources {
		all = append(all, r.Agents...)
	}
	return all
}

// ConnectionInfo is how agents are reached.
type ConnectionInfo struct {
	ForceWebsockets bool   `json:"derp_force_websockets"`
	DisableDirect   bool   `json:"disable_direct_connections"`
	HostnameSuffix  string `json:"hostname_suffix"`
}

// get asks the server and decodes the answer.
func (a API) get(ctx context.Context, into any, path string, query url.Values) error {
	return a.do(ctx, http.MethodGet, path, query, nil, into)
}

func (a API) do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	u := a.URL.JoinPath(path)
	u.RawQuery = query.Encode()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return err
	}
	req.Header.Set(wire.TokenHeader, a.Token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client().Do(req)
	if err != nil {
		return fmt.Errorf("ask the server: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if resp.StatusCode >= 300 {
		return answerError(resp, text)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the server's answer to %s: %w", path, err)
	}
	return nil
}

// client never follows a redirect: the token is for one server.
func (a API) client() *http.Client {
	var c http.Client
	if a.HTTPClient != nil {
		c = *a.HTTPClient
	}
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// answerError is what the server says.
func answerError(resp *http.Response, text []byte) error {
	var e wire.Error
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "application/json" || json.Unmarshal(text, &e) != nil || e.Message == "" {
		return fmt.Errorf("the server answers %s", resp.Status)
	}
	if e.Detail != "" {
		return fmt.Errorf("%s (%s)", e.Message, e.Detail)
	}
	return errors.New(e.Message)
}

// Find looks a workspace up by [owner/]workspace[.agent] and chooses its agent,
// which must be named if there are several.
func (a API) Find(ctx context.Context, name string) (Workspace, Agent, error) {
	owner, rest, ok := strings.Cut(name, "/")
	if !ok {
		owner, rest = "me", name
	}
	workspace, agentName, _ := strings.Cut(rest, ".")
	if owner == "" || workspace == "" {
		return Workspace{}, Agent{}, fmt.Errorf("%q is not [owner/]workspace[.agent]", name)
	}
	var w Workspace
	if err := a.get(ctx, &w, "/api/v2/users/"+url.PathEscape(owner)+"/workspace/"+url.PathEscape(workspace), url.Values{"include_deleted": {"false"}}); err != nil {
		return Workspace{}, Agent{}, err
	}
	agent, err := w.choose(agentName)
	return w, agent, err
}

func (w Workspace) choose(name string) (Agent, error) {
	agents := w.Agents()
	var names []string
	for _, a := range agents {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	switch {
	case len(agents) == 0:
		return Agent{}, fmt.Errorf("workspace %s has no agent", w.Name)
	case name != "":
		return Agent{}, fmt.Errorf("workspace %s has no agent %s, only %s", w.Name, name, strings.Join(names, ", "))
	case len(agents) > 1:
		return Agent{}, fmt.Errorf("workspace %s has several agents; name one: %s", w.Name, strings.Join(names, ", "))
	}
	return agents[0], nil
}

// Workspaces lists the person's own workspaces.
func (a API) Workspaces(ctx context.Context) ([]Workspace, error) {
	var list struct {
		Workspaces []Workspace `json:"workspaces"`
	}
	err := a.get(ctx, &list, "/api/v2/workspaces", url.Values{"q": {"owner:me"}})
	return list.Workspaces, err
}

// ConnectionInfo tells how an agent is reached.
func (a API) ConnectionInfo(ctx context.Context, agent uuid.UUID) (info ConnectionInfo, err error) {
	err = a.get(ctx, &info, "/api/v2/workspaceagents/"+agent.String()+"/connection", nil)
	return info, err
}

// ReportUsage says that the person uses a workspace with an application.
func (a API) ReportUsage(ctx context.Context, workspace, agent uuid.UUID, app string) error {
	return a.do(ctx, http.MethodPost, "/api/v2/workspaces/"+workspace.String()+"/usage", nil,
		map[string]string{"agent_id": agent.String(), "app_name": app}, nil)
}

// readAll reads what an answer says, as far as it says something useful.
func readAll(resp *http.Response) []byte {
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // an error leaves what was read
	return text
}
