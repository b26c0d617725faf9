package reportclient

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/internal/retry"
	"github.com/worktally/worktally/wire"
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

func newConnectionQueue(t *stats.Tally) *connectionQueue {
	return &connectionQueue{tally: t, queue: newQueue[*agentpb.Connection](maxConnectionReports)}
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

// send delivers the reports in order. One that the server refuses is dropped and
// counted; one that the session lost is sent again in the next.
func (q *connectionQueue) send(ctx context.Context, api agentpb.DRPCAgentClient) error {
	for {
		m, err := q.queue.head(ctx)
		if err != nil {
			return err
		}
		callCtx, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = api.ReportConnection(callCtx, &agentpb.ReportConnectionRequest{Connection: m})
		cancel()
		if drop, err := refused(ctx, err); err != nil {
			return fmt.Errorf("report connection: %w", err)
		} else if drop {
			q.tally.Drop(stats.DropConnectionReports, 1)
		}
		q.queue.pop()
	}
}

// pause keeps a failing sender from spinning.
const pause = time.Second

// refused sorts the error of a call whose content the server may not like: drop
// says that the server answered and will not take it. Any other error is the
// session's. A lost session may look like a refusal for a moment, so it is given
// the time to be noticed.
func refused(ctx context.Context, err error) (drop bool, sessionErr error) {
	if err == nil {
		return false, nil
	}
	if wire.IsUnimplemented(err) {
		return true, nil
	}
	if waitErr := retry.Sleep(ctx, pause); waitErr != nil {
		return false, err
	}
	return true, nil
}
