package reportclient

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/wire/agentpb"
)

// maxConnectionReports bounds the waiting connection reports.
const maxConnectionReports = 2048

// Connection says that somebody connected or disconnected (contract agent-api.md
// section 6.8).
type Connection struct {
	// ID is the same for both ends of a connection.
	ID   uuid.UUID
	Kind stats.Kind
	// IP is the peer's address without port.
	IP string
	At time.Time
	// Ended tells a disconnect; Code and Reason belong to it.
	Ended  bool
	Code   int32
	Reason string
}

type connectionQueue struct {
	tally *stats.Tally
	queue *queue[*agentpb.Connection]
}

func newConnectionQueue(t *stats.Tally, wake signal) *connectionQueue {
	return &connectionQueue{tally: t, queue: newQueue[*agentpb.Connection](maxConnectionReports, wake)}
}

// ReportConnection queues a report; it never blocks.
func (c *Client) ReportConnection(e Connection) {
	if !c.connections.queue.put(e.message()) {
		c.connections.tally.Drop(stats.DropConnectionReports, 1)
	}
}

func (e Connection) message() *agentpb.Connection {
	m := &agentpb.Connection{
		Id: e.ID[:], Action: agentpb.Connection_CONNECT, Type: connectionType(e.Kind.Family),
		Timestamp: timestamppb.New(e.At), Ip: e.IP, AppName: e.Kind.App,
	}
	if m.Ip == "" || m.Ip == "localhost" {
		// A unix socket has no address; a server of 2025 refuses an empty one.
		m.Ip = "127.0.0.1"
	}
	if e.Ended {
		m.Action, m.StatusCode, m.Reason = agentpb.Connection_DISCONNECT, e.Code, &e.Reason
	}
	return m
}

// connectionType never is unspecified: a server of 2025 answers that with an
// error, for ever.
func connectionType(f appname.Family) agentpb.Connection_Type {
	switch f {
	case appname.VSCode:
		return agentpb.Connection_VSCODE
	case appname.JetBrains:
		return agentpb.Connection_JETBRAINS
	case appname.ReconnectingPTY:
		return agentpb.Connection_RECONNECTING_PTY
	}
	return agentpb.Connection_SSH
}

// next is a sender's.
func (q *connectionQueue) next(ctx context.Context, api agentpb.DRPCAgentClient) (sent bool, due time.Time, err error) {
	m, ok := q.queue.head()
	if !ok {
		return false, due, nil
	}
	if _, err := api.ReportConnection(ctx, &agentpb.ReportConnectionRequest{Connection: m}); err != nil {
		return false, due, err
	}
	q.queue.pop()
	return true, due, nil
}

// drop is a sender's.
func (q *connectionQueue) drop() {
	q.tally.Drop(stats.DropConnectionReports, 1)
	q.queue.pop()
}
