package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// hostile: somebody with the token of one workspace says whatever there is to say
// against all rules, beside the agent of that workspace and that of another one.
// Nothing of it counts, and neither agent minds.
func hostile(ctx context.Context, w *world) error {
	if _, err := w.addWorkspace(ctx, "good"); err != nil {
		return err
	}
	bad, err := w.addWorkspace(ctx, "bad")
	if err != nil {
		return err
	}
	ids, err := w.workspaceIDs(ctx)
	if err != nil {
		return err
	}
	token, err := bad.agent.Token()
	if err != nil {
		return err
	}
	for range 8 { // together they begin more epochs than an agent may have
		for _, lie := range lies(w.rng, ids["bad"], ids["good"]) {
			if err := w.tell(ctx, token, lie); err != nil {
				return err
			}
		}
		if err := w.noise(ctx, token); err != nil {
			return err
		}
		if err := errors.Join(w.reachable(ctx), w.awaitReport(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// workspaceIDs are the ids by name.
func (w *world) workspaceIDs(ctx context.Context) (map[string]uuid.UUID, error) {
	out, err := w.server.CLI(ctx, "workspace", "list", "-o", "json")
	if err != nil {
		return nil, err
	}
	var list []struct {
		ID   uuid.UUID
		Name string
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, err
	}
	ids := make(map[string]uuid.UUID)
	for _, ws := range list {
		ids[ws.Name] = ws.ID
	}
	return ids, nil
}

// session opens one as the agent with the token.
func (w *world) session(ctx context.Context, token string) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "http://"+w.server.Address+"/api/v2/workspaceagents/me/rpc?version=2.4&role=agent", &websocket.DialOptions{
		HTTPHeader: http.Header{wire.TokenHeader: {token}}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	ws.SetReadLimit(-1)
	return ws, nil
}

// tell makes one call in a session of its own. The answer is the server's business.
func (w *world) tell(ctx context.Context, token string, lie *agentpb.UpdateStatsRequest) error {
	ws, err := w.session(ctx, token)
	if err != nil {
		return err
	}
	conn, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	if err != nil {
		return err
	}
	defer conn.Close()
	limit, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, _ = agentpb.NewDRPCAgentClient(conn).UpdateStats(limit, lie)
	w.r.Outages++
	if errors.Is(limit.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer to %.200s", lie)
	}
	return ctx.Err()
}

// noise says nonsense instead of frames, and hangs up.
func (w *world) noise(ctx context.Context, token string) error {
	for i := range 20 {
		ws, err := w.session(ctx, token)
		if err != nil {
			return err
		}
		n := make([]byte, 1+w.rng.IntN(8192))
		for i := range n {
			n[i] = byte(w.rng.Uint32())
		}
		if i%2 == 0 { // a stream is opened first, and its frames are nonsense
			n = append([]byte{0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4, 0}, n...)
		}
		_ = ws.Write(ctx, websocket.MessageBinary, n)
		_ = ws.CloseNow()
	}
	return ctx.Err()
}

// lies are reports of which nothing may count.
func lies(rng *rand.Rand, own, foreign uuid.UUID) (list []*agentpb.UpdateStatsRequest) {
	series := func(name string, v float64, labels ...string) []*worktallypb.Series {
		return []*worktallypb.Series{{Name: name, Labels: labels, Value: v}}
	}
	opened := func(v float64) []*worktallypb.Series { return series("agent_sessions_opened_total", v, "via", "ssh") }
	window := func(change func(*worktallypb.Window)) {
		epoch := uuid.New()
		win := &worktallypb.Window{
			Sequence: 1, WorkspaceId: own[:], AgentName: "main", Epoch: epoch[:], Length: durationpb.New(time.Second), Age: durationpb.New(0),
			Totals: opened(0), Gauges: &worktallypb.Gauges{},
		}
		change(win)
		list = append(list, &agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{}, Worktally: &worktallypb.ReportRequest{
			Protocol: 1, Epoch: win.GetEpoch(), LastSequence: win.GetSequence(), Windows: []*worktallypb.Window{win},
		}})
	}
	much := float64(1 + rng.IntN(1_000_000))
	for _, v := range []float64{-much, math.NaN(), math.Inf(1), math.Inf(-1)} {
		window(func(win *worktallypb.Window) { win.Totals = opened(v) })
	}
	for _, s := range [][]*worktallypb.Series{
		series("worktally_workspace_sessions_total", much, "via", "ssh"), series("up", much), series("", much), series("a b", much),
		series("agent_sessions_opened_total", much, "via"), series("agent_sessions_opened_total", much, "via", "ssh", "via", "ssh"),
		series("agent_sessions_opened_total", much, "via", "ssh\xff"), series("agent_sessions_opened_total\n# x", much, "via", "ssh"), {nil},
	} {
		window(func(win *worktallypb.Window) { win.Totals = s })
	}
	window(func(win *worktallypb.Window) { win.WorkspaceId, win.Totals = foreign[:], opened(much) })
	window(func(win *worktallypb.Window) { win.WorkspaceId, win.Totals = uuid.Nil[:], opened(much) })
	window(func(win *worktallypb.Window) { win.WorkspaceId, win.Totals = own[:7], opened(much) })
	window(func(win *worktallypb.Window) { win.AgentName, win.Totals = "another", opened(much) })
	window(func(win *worktallypb.Window) { win.Epoch, win.Totals = []byte("x"), opened(much) })
	window(func(win *worktallypb.Window) { win.Epoch, win.Totals = nil, opened(much) })
	window(func(win *worktallypb.Window) { win.Sequence = math.MaxUint64 })
	window(func(win *worktallypb.Window) { win.Sequence, win.Totals = 0, opened(much) })
	window(func(win *worktallypb.Window) {
		win.Length, win.Age = durationpb.New(-time.Hour), durationpb.New(-time.Hour)
	})
	window(func(win *worktallypb.Window) { win.Length = &durationpb.Duration{Seconds: math.MaxInt64, Nanos: -7} })
	window(func(win *worktallypb.Window) {
		win.Age = &durationpb.Duration{Seconds: math.MinInt64, Nanos: math.MaxInt32}
	})
	window(func(win *worktallypb.Window) { win.Length, win.Age, win.Gauges = nil, nil, nil })
	window(func(win *worktallypb.Window) {
		win.Gauges = &worktallypb.Gauges{ConnectionCount: -1, ConnectionsByProto: map[string]int64{"": math.MinInt64}, Sessions: []*worktallypb.OpenSessions{nil, {Count: -5}}}
	})
	window(func(win *worktallypb.Window) {
		for i := range 20_000 {
			win.Totals = append(win.Totals, series(fmt.Sprintf("agent_x%d_total", i), 1)...)
		}
	})
	return append(list, &agentpb.UpdateStatsRequest{}, &agentpb.UpdateStatsRequest{Worktally: &worktallypb.ReportRequest{Windows: []*worktallypb.Window{nil}}},
		&agentpb.UpdateStatsRequest{Stats: &agentpb.Stats{}, Worktally: &worktallypb.ReportRequest{Protocol: math.MaxUint32, Windows: []*worktallypb.Window{nil, {}}}})
}
