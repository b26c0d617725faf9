package audit

import (
	"strings"
	"time"
)

// What happened.
const (
	AgentConnected     = "agent_connected"
	AgentDisconnected  = "agent_disconnected"
	ClientConnected    = "client_connected" // a person's client, at the coordinator
	ClientDisconnected = "client_disconnected"
	LoginFailed        = "login_failed"
	TokenRotated       = "token_rotated"
	UserCreated        = "user_created"
	UserDeleted        = "user_deleted"
	WorkspaceCreated   = "workspace_created"
	WorkspaceChanged   = "workspace_changed"
	WorkspaceDeleted   = "workspace_deleted"
	Imported           = "imported"
	ConnectionOpened   = "connection_opened" // into a workspace, as its agent reports
	ConnectionClosed   = "connection_closed"
)

// events are all of them.
func events() []string {
	return []string{AgentConnected, AgentDisconnected, ClientConnected, ClientDisconnected, LoginFailed, TokenRotated, UserCreated, UserDeleted,
		WorkspaceCreated, WorkspaceChanged, WorkspaceDeleted, Imported, ConnectionOpened, ConnectionClosed}
}

// Event is a line of the log. It has no field for a token, and none may be put into
// another one. What does not apply is left empty.
type Event struct {
	Time time.Time `json:"time"`
	// Name is one of the constants.
	Name string `json:"event"`
	// User did it; "" if that is nobody or not known.
	User string `json:"user,omitempty"`
	// Owner, Workspace and Agent are what it was done with.
	Owner     string `json:"owner,omitempty"`
	Workspace string `json:"workspace,omitempty"`
	Agent     string `json:"agent,omitempty"`
	// Target is the user to whom it was done.
	Target string `json:"target,omitempty"`
	// Address is where it came from: that of the peer of the connection, or what an
	// agent reports.
	Address string `json:"address,omitempty"`
	// Kind tells kinds of one event apart, such as ssh and vscode.
	Kind string `json:"kind,omitempty"`
	// ID is the same in the events with which something begins and ends.
	ID string `json:"id,omitempty"`
	// Reason says why it ended or failed, in words.
	Reason string `json:"reason,omitempty"`
}

// maxField bounds what may come from outside, in bytes.
const maxField = 256

// bounded cuts fields that are too long.
func (e Event) bounded() Event {
	for _, field := range []*string{&e.User, &e.Owner, &e.Workspace, &e.Agent, &e.Target, &e.Address, &e.Kind, &e.ID, &e.Reason} {
		if len(*field) > maxField {
			*field = strings.ToValidUTF8((*field)[:maxField], "")
		}
	}
	return e
}

// source is who brings events about that cost nothing: strangers, who are one source,
// and the agents of workspaces, whose connections and whose reports of others' are
// apart, so that what an agent makes up hides nothing that was seen here.
type source struct{ kind, owner, workspace, agent string }

// source returns whose event it is. What people change, and their clients, are not
// bounded: who has a token is known by name.
func (e Event) source() (from source, bounded bool) {
	switch e.Name {
	case LoginFailed:
		return source{kind: LoginFailed}, true
	case AgentConnected, AgentDisconnected:
		return source{AgentConnected, e.Owner, e.Workspace, e.Agent}, true
	case ConnectionOpened, ConnectionClosed:
		return source{ConnectionOpened, e.Owner, e.Workspace, e.Agent}, true
	}
	return source{}, false
}
