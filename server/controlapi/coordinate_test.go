package controlapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// fakeTailnet stands for the coordinator: it tells everybody the id it was given.
type fakeTailnet struct {
	mu    sync.Mutex
	ended []uuid.UUID
	peers []Peer
	asked []*tailnetpb.CoordinateRequest
}

func (f *fakeTailnet) options() Tailnet {
	return Tailnet{
		DERPMap: fullMap, BlockDirect: true, ForceWebsockets: true, HostnameSuffix: "test", ResumeKey: []byte("a key"),
		Service: func(p Peer, _ context.CancelCauseFunc) tailnetpb.DRPCTailnetServer {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.peers = append(f.peers, p)
			return &fakeService{f: f, p: p}
		},
		EndPeers: func(ids ...uuid.UUID) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.ended = append(f.ended, ids...)
		},
	}
}

func (f *fakeTailnet) endedPeers() []uuid.UUID {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]uuid.UUID{}, f.ended...)
}

type fakeService struct {
	tailnetpb.DRPCTailnetUnimplementedServer
	f *fakeTailnet
	p Peer
}

// Coordinate answers every request with the id of the peer. A panic is asked for
// by a malformed tunnel.
func (s *fakeService) Coordinate(stream tailnetpb.DRPCTailnet_CoordinateStream) error {
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if t := r.GetAddTunnel(); t != nil && len(t.GetId()) == 0 {
			panic("asked for")
		}
		s.f.mu.Lock()
		s.f.asked = append(s.f.asked, r)
		s.f.mu.Unlock()
		if err := stream.Send(&tailnetpb.CoordinateResponse{PeerUpdates: []*tailnetpb.CoordinateResponse_PeerUpdate{{Id: s.p.ID[:]}}}); err != nil {
			return err
		}
	}
}

// dialCoordinate opens a session; without one it returns the answer.
func (f *fixture) dialCoordinate(base, token, path string) (*wire.Client, *http.Response) {
	f.t.Helper()
	ws, resp, err := websocket.Dial(f.t.Context(), base+"/api/v2/workspaceagents/"+path, &websocket.DialOptions{HTTPHeader: http.Header{wire.TokenHeader: {token}}})
	if err != nil {
		if resp == nil {
			f.t.Fatal(err)
		}
		return nil, resp
	}
	c, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
	must(f.t, err)
	f.t.Cleanup(func() { _ = c.Close() })
	return c, resp
}

// problem reads an error as a client does.
func problem(t *testing.T, resp *http.Response) (e wire.Error) {
	t.Helper()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, json.Unmarshal(text, &e))
	return e
}

// coordinate opens the stream and returns who the client is there.
func coordinate(t *testing.T, c *wire.Client) (tailnetpb.DRPCTailnet_CoordinateClient, uuid.UUID) {
	t.Helper()
	stream, err := tailnetpb.NewDRPCTailnetClient(c).Coordinate(context.Background())
	must(t, err)
	must(t, stream.Send(&tailnetpb.CoordinateRequest{}))
	r, err := stream.Recv()
	must(t, err)
	return stream, uuid.UUID(r.PeerUpdates[0].Id)
}

func closed(t *testing.T, c *wire.Client) {
	t.Helper()
	select {
	case <-c.Closed():
	case <-time.After(time.Minute):
		t.Fatal("the session goes on")
	}
}

func TestCoordinate_Session(t *testing.T) {
	f := newFixture(t)
	agent := f.demo().Agents[0].ID
	base := f.serve()
	path := agent.String() + "/coordinate?version=2.0"
	c, _ := f.dialCoordinate(base, f.ann, path)
	_, id := coordinate(t, c)
	api := tailnetpb.NewDRPCTailnetClient(c)
	token, err := api.RefreshResumeToken(t.Context(), &tailnetpb.RefreshResumeTokenRequest{})
	must(t, err)
	if left := time.Until(token.GetExpiresAt().AsTime()); left < 23*time.Hour || token.GetRefreshIn().AsDuration() > left/2+time.Minute || token.GetRefreshIn().AsDuration() < time.Hour {
		t.Errorf("token %v", token)
	}
	if _, err := api.PostTelemetry(t.Context(), &tailnetpb.TelemetryRequest{Events: []*tailnetpb.TelemetryEvent{{}}}); err != nil {
		t.Error(err)
	}
	_ = c.Close()

	again, _ := f.dialCoordinate(base, f.ann, agent.String()+"/coordinate?resume_token="+token.GetToken()+"&version=2.3")
	if _, same := coordinate(t, again); same != id {
		t.Errorf("peer %s came back as %s", id, same)
	}
	fresh, _ := f.dialCoordinate(base, f.admin, path)
	if _, other := coordinate(t, fresh); other == id {
		t.Error("two clients are the same peer")
	}
	f.tailnet.mu.Lock()
	defer f.tailnet.mu.Unlock()
	if p := f.tailnet.peers[0]; p.AgentID != agent || p.ID != id || p.UserID == uuid.Nil || f.tailnet.peers[2].UserID == p.UserID {
		t.Errorf("peers %+v", f.tailnet.peers)
	}
}

func TestCoordinate_Refusals(t *testing.T) {
	f := newFixture(t)
	ws := f.demo()
	agent, side := ws.Agents[0].ID, ws.Agents[1].ID
	base := f.serve()
	ann, err := f.catalog.UserByName(t.Context(), "ann")
	must(t, err)
	token := func(edit func(*resumeToken)) string {
		r := resumeToken{peer: uuid.New(), agent: agent, user: ann.ID, expires: time.Now().Add(time.Hour)}
		edit(&r)
		return "?version=2.0&resume_token=" + signResume([]byte("a key"), r)
	}
	for _, c := range []struct {
		name, token, path string
		status            int
		field             string
	}{
		{"no version", f.ann, agent.String() + "/coordinate", 400, "version"},
		{"version 1", f.ann, agent.String() + "/coordinate?version=1.0", 400, "version"},
		{"version 3", f.ann, agent.String() + "/coordinate?version=3.0", 400, "version"},
		{"nonsense", f.ann, agent.String() + "/coordinate?version=x", 400, "version"},
		{"a negative version", f.ann, agent.String() + "/coordinate?version=2.-1", 400, "version"},
		{"no agent", f.ann, "x/coordinate?version=2.0", 400, "id"},
		{"an unknown agent", f.ann, uuid.NewString() + "/coordinate?version=2.0", 404, ""},
		{"another's agent", f.bob, agent.String() + "/coordinate?version=2.0", 404, ""},
		{"a made-up resume token", f.ann, agent.String() + "/coordinate?version=2.0&resume_token=x", 401, "resume_token"},
		{"an expired one", f.ann, agent.String() + "/coordinate" + token(func(r *resumeToken) { r.expires = time.Now().Add(-time.Second) }), 401, "resume_token"},
		{"another agent's", f.ann, agent.String() + "/coordinate" + token(func(r *resumeToken) { r.agent = side }), 401, "resume_token"},
		{"another person's", f.admin, agent.String() + "/coordinate" + token(func(*resumeToken) {}), 401, "resume_token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			session, resp := f.dialCoordinate(base, c.token, c.path)
			if session != nil {
				t.Fatal("it was let in")
			}
			e := problem(t, resp)
			if resp.StatusCode != c.status || e.Message == "" {
				t.Errorf("status %d, want %d: %+v", resp.StatusCode, c.status, e)
			}
			if c.field != "" && (len(e.Validations) != 1 || e.Validations[0].Field != c.field) {
				t.Errorf("validations %+v, want one of %s", e.Validations, c.field)
			}
		})
	}
	if got := gathered(t, f, "worktally_client_resume_tokens_refused_total"); got != 4 {
		t.Errorf("%v resume tokens refused, want 4", got)
	}
}

// gathered is the value of a family with one series.
func gathered(t *testing.T, f *fixture, name string) float64 {
	t.Helper()
	families, err := f.reg.Gather()
	must(t, err)
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// TestCoordinate_RightEnds: what takes the right to an agent away ends the
// sessions, the peer being ended at the coordinator first.
func TestCoordinate_RightEnds(t *testing.T) {
	f := newFixture(t)
	ws := f.demo()
	base := f.serve()
	open := func(token string, agent uuid.UUID) (*wire.Client, uuid.UUID) {
		c, resp := f.dialCoordinate(base, token, agent.String()+"/coordinate?version=2.0")
		if c == nil {
			t.Fatalf("status %d: %+v", resp.StatusCode, problem(t, resp))
		}
		_, id := coordinate(t, c)
		return c, id
	}
	main, side := ws.Agents[0].ID, ws.Agents[1].ID
	annMain, idAnnMain := open(f.ann, main)
	annSide, idAnnSide := open(f.ann, side)
	adminMain, idAdmin := open(f.admin, main)
	wantEnded := func(ids ...uuid.UUID) {
		t.Helper()
		got := map[uuid.UUID]bool{}
		for _, id := range f.tailnet.endedPeers() {
			got[id] = true
		}
		for _, id := range ids {
			if !got[id] {
				t.Errorf("peer %s was not ended", id)
			}
		}
		if len(got) != len(ids) {
			t.Errorf("%d peers ended, want %d", len(got), len(ids))
		}
	}
	path := v1 + "/workspaces/" + ws.ID.String()
	f.do(f.ann, "POST", path+"/agents/main/token", "{}", 200, nil)
	wantEnded() // the agent comes back
	f.do(f.ann, "PUT", path, "name: demo\nagents: [{name: main}]", 200, nil)
	closed(t, annSide)
	wantEnded(idAnnSide)
	var fresh Token
	f.do(f.ann, "POST", v1+"/users/me/token", "", 200, &fresh)
	closed(t, annMain)
	wantEnded(idAnnSide, idAnnMain)
	if c, resp := f.dialCoordinate(base, f.ann, main.String()+"/coordinate?version=2.0"); c != nil || resp.StatusCode != 401 {
		t.Errorf("the old token: %d", resp.StatusCode)
	}
	again, idAgain := open(fresh.Token, main)
	f.do(f.admin, "DELETE", path, "", 204, nil)
	closed(t, again)
	closed(t, adminMain)
	wantEnded(idAnnSide, idAnnMain, idAgain, idAdmin)
	poll(t, "no session", func() bool { return gathered(t, f, "worktally_client_sessions") == 0 })
}

// TestRevocable: what arrives after the right has ended is not passed on.
func TestRevocable(t *testing.T) {
	s := &session{}
	stream := revocable{oneRequest{}, s}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	s.revoked.Store(true)
	if _, err := stream.Recv(); !errors.Is(err, errRevoked) {
		t.Errorf("after the end: %v", err)
	}
}

type oneRequest struct {
	tailnetpb.DRPCTailnet_CoordinateStream
}

func (oneRequest) Recv() (*tailnetpb.CoordinateRequest, error) {
	return &tailnetpb.CoordinateRequest{}, nil
}

func TestCoordinate_Stop(t *testing.T) {
	f := newFixture(t)
	agent := f.demo().Agents[0].ID
	base := f.serve()
	path := agent.String() + "/coordinate?version=2.0"
	c, _ := f.dialCoordinate(base, f.ann, path)
	coordinate(t, c)
	f.handler.Close()
	closed(t, c)
	c, resp := f.dialCoordinate(base, f.ann, path)
	if c != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestCoordinate_TooMany(t *testing.T) {
	s := &sessions{open: make(map[*session]struct{})}
	var mine []*session
	for range maxSessions {
		o := &session{}
		must(t, s.add(o))
		mine = append(mine, o)
	}
	if err := s.add(&session{}); !errors.Is(err, errTooManySessions) {
		t.Errorf("one more: %v", err)
	}
	other := &session{}
	other.user.ID = uuid.New()
	must(t, s.add(other))
	s.remove(mine[0])
	must(t, s.add(mine[0]))
}

// TestCoordinate_PanicCostsOneCall: the session goes on.
func TestCoordinate_PanicCostsOneCall(t *testing.T) {
	f := newFixture(t)
	agent := f.demo().Agents[0].ID
	c, _ := f.dialCoordinate(f.serve(), f.ann, agent.String()+"/coordinate?version=2.0")
	stream, _ := coordinate(t, c)
	must(t, stream.Send(&tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{}}))
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("err = %v", err)
	}
	coordinate(t, c)
	if n := gathered(t, f, "worktally_client_panics_total"); n != 1 {
		t.Errorf("%v panics counted", n)
	}
}

// TestCoordinate_OtherSites: a browser that another site's page sends here is
// turned away, cookie or not.
func TestCoordinate_OtherSites(t *testing.T) {
	f := newFixture(t)
	agent := f.demo().Agents[0].ID
	base := f.serve()
	header := http.Header{"Cookie": {wire.TokenCookie + "=" + f.ann}, "Origin": {"https://elsewhere.example.com"}}
	_, resp, err := websocket.Dial(t.Context(), base+"/api/v2/workspaceagents/"+agent.String()+"/coordinate?version=2.0", &websocket.DialOptions{HTTPHeader: header})
	if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("%v: %v", resp, err)
	}
}

func poll(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
