package agentapi_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/coordinator"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/server/republish"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

func TestMain(m *testing.M) { testtool.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// poll waits until ok, and fails after a while saying what was missing.
func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

const workspaceYAML = `
name: box
template: {name: go, version: v7}
scripts:
  - {name: hello, on: start, script: echo}
apps:
  - {slug: web, display_name: Web, healthcheck: {url: "http://127.0.0.1:1"}}
  - {slug: plain}
metadata:
  - {key: load, script: uptime}
`

// world is the server's side of agents with everything real but the network in
// front of it.
type world struct {
	t           testing.TB
	catalog     *catalog.Catalog
	ledger      *ledger.Ledger
	publisher   *republish.Publisher
	coordinator *coordinator.Coordinator
	agents      *agentapi.Service
	url         string

	user    catalog.User
	ws      catalog.Workspace
	agent   catalog.Agent
	token   string
	stopped bool
	stop    func()
}

type setup struct {
	options func(*agentapi.Options)
	path    string // of the database
}

func relays() *tailnetpb.DERPMap {
	return &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{}}
}

func newWorld(t testing.TB, s setup) *world {
	t.Helper()
	if s.path == "" {
		s.path = filepath.Join(t.TempDir(), "test.db")
	}
	w := &world{t: t}
	db, err := sqldb.Open(t.Context(), s.path)
	must(t, err)
	w.catalog, err = catalog.Open(t.Context(), db, catalog.Options{})
	must(t, err)
	w.ledger, err = ledger.Open(t.Context(), db, ledger.Options{})
	must(t, err)
	w.seed()
	w.coordinator = coordinator.New(coordinator.Options{DERPMap: relays})
	table := exposition.NewTable()
	w.publisher, err = republish.New(republish.Options{
		Catalog: w.catalog, Ledger: w.ledger, Table: table, CollectAgentStats: true,
		Own: func(b *exposition.Builder) { w.agents.Fill(b); w.coordinator.Fill(b) }, Node: w.coordinator.Node,
	})
	must(t, err)
	o := agentapi.Options{
		Catalog: w.catalog, Ledger: w.ledger, Publisher: w.publisher, Table: table, Tailnet: w.coordinator.Agent, DERPMap: relays,
	}
	if s.options != nil {
		s.options(&o)
	}
	w.agents, err = agentapi.New(o)
	must(t, err)
	must(t, w.publisher.Rebuild(t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{w.ledger.Run, w.agents.Run, w.publisher.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	mux := http.NewServeMux()
	w.agents.Register(mux)
	server := httptest.NewServer(mux)
	w.url = server.URL
	w.stop = func() {
		if w.stopped {
			return
		}
		w.stopped = true
		w.agents.Close()
		w.coordinator.Close()
		server.Close()
		cancel()
		running.Wait()
		must(t, db.Close())
	}
	t.Cleanup(w.stop)
	return w
}

// seed finds the user and workspace in the database, or makes them.
func (w *world) seed() {
	w.t.Helper()
	ctx := w.t.Context()
	_, _, _, err := w.catalog.EnsureFirstUser(ctx, "ann")
	must(w.t, err)
	users, err := w.catalog.Users(ctx)
	must(w.t, err)
	w.user = users[0]
	w.apply(workspaceYAML)
}

func (w *world) apply(yaml string) {
	w.t.Helper()
	spec, err := catalog.ParseSpec("test", []byte(yaml))
	must(w.t, err)
	applied, err := w.catalog.Apply(w.t.Context(), w.user, spec)
	must(w.t, err)
	w.ws, w.agent = applied.Workspace, applied.Workspace.Agents[0]
	if token := applied.Tokens[w.agent.Name]; token != "" {
		w.token = token
		return
	}
	_, w.token, err = w.catalog.RotateAgentToken(w.t.Context(), w.ws.ID, w.agent.Name)
	must(w.t, err)
}

// other makes another workspace and returns its agent's token.
func (w *world) other(name string) (token string, ws catalog.Workspace) {
	w.t.Helper()
	spec, err := catalog.ParseSpec("test", []byte(strings.Replace(workspaceYAML, "box", name, 1)))
	must(w.t, err)
	applied, err := w.catalog.Apply(w.t.Context(), w.user, spec)
	must(w.t, err)
	return applied.Tokens["main"], applied.Workspace
}

// peer is the agent's end of a session.
type peer struct {
	*wire.Client
	agentpb.DRPCAgentClient
	tailnet tailnetpb.DRPCTailnetClient
}

// socket opens the websocket of a session.
func (w *world) socket(token, query string) (*websocket.Conn, *http.Response, error) {
	return websocket.Dial(w.t.Context(), w.url+"/api/v2/workspaceagents/me/rpc"+query, &websocket.DialOptions{
		HTTPHeader: http.Header{wire.TokenHeader: {token}},
	})
}

func (w *world) dial() *peer { return w.dialAs(w.token, "?version=2.13") }

func (w *world) dialAs(token, query string) *peer {
	w.t.Helper()
	ws, _, err := w.socket(token, query)
	must(w.t, err)
	ws.SetReadLimit(-1)
	client, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	must(w.t, err)
	w.t.Cleanup(func() { _ = client.Close() })
	return &peer{client, agentpb.NewDRPCAgentClient(client), tailnetpb.NewDRPCTailnetClient(client)}
}

// page renders the server's page and returns its samples.
func (w *world) page() map[string]string {
	w.t.Helper()
	var b bytes.Buffer
	page := w.publisher.Page()
	must(w.t, page.Write(&b, exposition.Text))
	samples := make(map[string]string)
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSpace(line)
		if i := strings.LastIndexByte(line, ' '); !strings.HasPrefix(line, "#") {
			samples[line[:i]] = line[i+1:]
		}
	}
	return samples
}

// latest is what the ledger has of all agents.
func (w *world) latest() (all []ledger.Latest) {
	w.t.Helper()
	must(w.t, w.ledger.Load(w.t.Context(), func(l ledger.Latest) error { all = append(all, l); return nil }))
	return all
}

// count returns one of the service's own counters.
func (w *world) count(family, label, value string) string {
	return w.page()[family+"{"+label+`="`+value+`"}`]
}

// want compares samples of the page.
func (w *world) want(samples map[string]string) {
	w.t.Helper()
	page := w.page()
	for name, v := range samples {
		if page[name] != v {
			w.t.Errorf("%s is %q, want %q", name, page[name], v)
		}
	}
}

func (w *world) state() catalog.AgentState {
	w.t.Helper()
	id, err := w.catalog.AgentByID(w.t.Context(), w.agent.ID)
	must(w.t, err)
	return id.Agent.State
}

func newID() []byte { id := uuid.New(); return id[:] }
