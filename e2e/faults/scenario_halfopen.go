package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/worktally/worktally/e2e/stack"
)

const (
	halfOpenConns = 10_000
	// silenceLimit is when the server must have sent everybody away who is silent.
	silenceLimit = 2 * time.Minute
)

// halfOpen: very many connections that are never finished, or finished and then
// silent, are open against the server. The agent goes on, and they are sent away.
func halfOpen(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	token, err := ws.agent.Token()
	if err != nil {
		return err
	}
	before, err := usageOf(ctx, w.server.Program, w.server.Page)
	if err != nil {
		return err
	}
	var open strangers
	defer open.close()
	var dialers sync.WaitGroup
	for part := range 8 {
		dialers.Go(func() {
			for i := range halfOpenConns / 8 {
				if (i+part)%10 == 0 {
					open.finish(ctx, w, token)
				} else {
					open.begin(w.server.Address)
				}
			}
		})
	}
	dialers.Wait()
	all, err := usageOf(ctx, w.server.Program, w.server.Page)
	if err != nil {
		return err
	}
	w.r.Outages += len(open.list)
	w.r.Notes = append(w.r.Notes, fmt.Sprintf("%d connections came in, %d were turned away", len(open.list), open.refused),
		fmt.Sprintf("the server needed %s, then %s", before, all))
	if err := w.awaitReport(ctx); err != nil {
		return err
	}
	return stack.Await(ctx, silenceLimit, func() error {
		now, err := usageOf(ctx, w.server.Program, w.server.Page)
		if err != nil {
			return err
		}
		now.bytes = 0 // the runtime gives memory back later
		return grown("the server", before, now)
	})
}

// strangers are connections that say no more.
type strangers struct {
	mu      sync.Mutex
	list    []interface{ Close() error }
	refused int
}

func (s *strangers) add(c interface{ Close() error }, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.refused++
		return
	}
	s.list = append(s.list, c)
}

func (s *strangers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.list {
		_ = c.Close()
	}
}

// begin sends the half of a request.
func (s *strangers) begin(address string) {
	conn, err := net.DialTimeout("tcp", address, 20*time.Second)
	if err == nil {
		_, err = conn.Write([]byte("GET /api/v2/workspaceagents/me/rpc HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nSec-WebSocket-Key: "))
	}
	s.add(conn, err)
}

// finish opens a session and says nothing.
func (s *strangers) finish(ctx context.Context, w *world, token string) {
	ws, err := w.session(ctx, token)
	s.add(silent{ws}, err)
}

// silent is a websocket that is closed without a word.
type silent struct{ *websocket.Conn }

func (s silent) Close() error { return s.CloseNow() }
