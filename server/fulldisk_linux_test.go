package server

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		testtool.Missing(t, "a tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fill takes all room of a disk, and returns what gives it back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	must(t, err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	must(t, f.Close())
	return func() { must(t, os.Remove(path)) }
}

// sender is an agent that only reports.
type sender struct {
	agentpb.DRPCAgentClient
	conn *wire.Client
}

func (w *world) sender(token string) *sender {
	w.t.Helper()
	ws, _, err := websocket.Dial(w.t.Context(), w.url.String()+"/api/v2/workspaceagents/me/rpc?version=2.6", &websocket.DialOptions{
		HTTPHeader: http.Header{wire.TokenHeader: {token}},
	})
	must(w.t, err)
	conn, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	must(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return &sender{agentpb.NewDRPCAgentClient(conn), conn}
}

// report sends a window whose total is its sequence times 10. Each has an hour of
// history that is its own.
func (r *sender) send(ctx context.Context, ws catalog.Workspace, epoch uuid.UUID, seq uint64) error {
	resp, err := r.UpdateStats(ctx, &agentpb.UpdateStatsRequest{Worktally: &worktallypb.ReportRequest{
		Protocol: 1, Epoch: epoch[:], LastSequence: seq,
		Windows: []*worktallypb.Window{{
			Sequence: seq, Epoch: epoch[:], WorkspaceId: ws.ID[:], AgentName: "main", Length: durationpb.New(time.Minute),
			Age: durationpb.New(time.Duration(seq) * time.Hour),
			Totals: []*worktallypb.Series{
				{Name: "agent_network_receive_bytes_total", Labels: []string{"path", "tcp"}, Value: float64(10 * seq)},
				{Name: "agent_test_" + strings.Repeat("x", 100) + strconv.FormatUint(seq%200, 10) + "_total", Value: float64(seq)},
			},
			Gauges: &worktallypb.Gauges{Sessions: []*worktallypb.OpenSessions{{AppName: "ssh", Family: "ssh", Count: 1}}},
		}},
	}})
	if err != nil {
		return err
	}
	for _, a := range resp.GetWorktally().GetAcknowledged() {
		if a.GetRefused() != "" {
			return errors.New("refused for good: " + a.GetRefused())
		}
	}
	return nil
}

func (w *world) received() float64 {
	w.t.Helper()
	totals, err := w.server.ledger.DeploymentTotals(w.t.Context())
	must(w.t, err)
	for _, s := range totals {
		if s.Name == "agent_network_receive_bytes_total" {
			return s.Value
		}
	}
	return 0
}

// TestServer_FullDisk: on a real disk without room reports are refused, so that
// agents keep them; the page, sessions of agents and people's connections go on,
// old and new ones; and with room again all counts once.
func TestServer_FullDisk(t *testing.T) {
	dir := smallDisk(t, "2m")
	// With so long an interval nobody's series end while the test runs.
	w := newWorld(t, Options{StateDir: dir, StatsInterval: time.Hour, Prometheus: Prometheus{CollectAgentStats: true}})
	token := w.apply("counted")
	ws, err := w.server.catalog.WorkspaceByName(t.Context(), "admin", "counted")
	must(t, err)
	dev, err := w.server.catalog.WorkspaceByName(t.Context(), "admin", "dev")
	must(t, err)
	w.agentID = dev.Agents[0].ID
	r, epoch := w.sender(token), uuid.New()
	must(t, r.send(t.Context(), ws, epoch, 1))
	old := w.dial(w.admin, "dev").stream()
	must(t, alive(old, patience))

	empty := fill(t, dir)
	seq := uint64(1)
	for seq < 5000 && err == nil { // what there is of the log can still be used
		seq++
		err = r.send(t.Context(), ws, epoch, seq)
	}
	if err == nil || !strings.Contains(err.Error(), "full") && !strings.Contains(err.Error(), "I/O") {
		t.Fatalf("report %d on a full disk: %v", seq, err)
	}
	t.Logf("report %d is refused: %v", seq, err)
	stored := w.received()
	// Something smaller may have found room since, so that there is no fault now.
	if faults := w.server.db.Faults(); stored != float64(10*(seq-1)) || faults[sqldb.Full]+faults[sqldb.IO] == 0 {
		t.Errorf("%v bytes are stored after report %d was refused, the disk's faults are %v", stored, seq, faults)
	}
	if _, err := r.GetManifest(t.Context(), &agentpb.GetManifestRequest{}); err != nil {
		t.Errorf("the session ended: %v", err)
	}
	must(t, alive(old, patience))
	again := w.sender(token) // a session that begins now
	_, err = again.UpdateStartup(t.Context(), &agentpb.UpdateStartupRequest{Startup: &agentpb.Startup{Version: "v9"}})
	must(t, err)
	_, err = again.UpdateLifecycle(t.Context(), &agentpb.UpdateLifecycleRequest{Lifecycle: &agentpb.Lifecycle{State: agentpb.Lifecycle_READY, ChangedAt: timestamppb.Now()}})
	must(t, err)
	must(t, alive(w.dial(w.admin, "dev").stream(), patience))
	if page := w.page(); !strings.Contains(page, "agent_network_receive_bytes_total{") {
		t.Errorf("the page is not whole:\n%s", page)
	}

	empty()
	poll(t, "the report to be taken", func() bool { return again.send(t.Context(), ws, epoch, seq) == nil })
	must(t, again.send(t.Context(), ws, epoch, seq)) // as if the reply had been lost
	if got := w.received(); got != float64(10*seq) {
		t.Errorf("total %v, want %v", got, 10*seq)
	}
	poll(t, "what the agent said about itself", func() bool {
		id, err := w.server.catalog.AgentByID(t.Context(), ws.Agents[0].ID)
		must(t, err)
		s := id.Agent.State
		return s.Version == "v9" && s.Lifecycle == agentpb.Lifecycle_READY && s.DisconnectedAt.IsZero()
	})
	if w.server.db.Fault() != sqldb.NoFault {
		t.Errorf("the disk's fault is still %v", w.server.db.Fault())
	}
	w.stop()
	w.start()
	poll(t, "the server", w.server.ready.Load)
	if got := w.received(); got != float64(10*seq) {
		t.Errorf("after a restart the total is %v, want %v", got, 10*seq)
	}
}
