package wiretest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func TestMain(m *testing.M) { testtool.Main(m) }

// TestServer_RefusesLikeTheRecordedServer compares status and message of the
// refusals with the recorded ones.
func TestServer_RefusesLikeTheRecordedServer(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	for _, tc := range []struct{ file, query, token string }{
		{"no-token", "?version=2.6", ""},
		{"unknown-token", "?version=2.6", "6f3b1c52-51f6-4d0f-9c2e-2b0a8c0d1e11"},
		{"minor-too-new", "?version=2.99", wiretest.Token},
		{"major-too-new", "?version=3.0", wiretest.Token},
		{"major-too-old", "?version=1.0", wiretest.Token},
	} {
		recorded, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(vectors.Read(t, "http/errors/"+tc.file+"-response.txt"))), nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL.String()+"/api/v2/workspaceagents/me/rpc"+tc.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(wire.TokenHeader, tc.token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(body(t, recorded), body(t, resp)); diff != "" || recorded.StatusCode != resp.StatusCode {
			t.Errorf("%s: %d, recorded %d (-recorded +ours):\n%s", tc.file, resp.StatusCode, recorded.StatusCode, diff)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(bytes.SplitN(b, []byte(`,"detail"`), 2)[0]))
}

// TestServer_Faults: answers, errors and cuts arrive as what they are, with and
// without a network.
func TestServer_Faults(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	wiretest.On(s.Service, func(context.Context, *agentpb.GetAnnouncementBannersRequest) (*agentpb.GetAnnouncementBannersResponse, error) {
		return nil, errors.New("the database is away")
	})
	var taken atomic.Int64
	wiretest.On(s.Service, func(context.Context, *agentpb.WorkspaceAgentScriptCompletedRequest) (*agentpb.WorkspaceAgentScriptCompletedResponse, error) {
		taken.Add(1)
		return &agentpb.WorkspaceAgentScriptCompletedResponse{}, nil
	})
	dial := func() agentpb.DRPCAgentClient {
		ws, _, err := websocket.Dial(t.Context(), s.URL.String()+"/api/v2/workspaceagents/me/rpc?version=2.4", &websocket.DialOptions{
			HTTPHeader: http.Header{wire.TokenHeader: {wiretest.Token}},
		})
		if err != nil {
			t.Fatal(err)
		}
		c, err := wire.NewClient(websocket.NetConn(context.Background(), ws, websocket.MessageBinary))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return agentpb.NewDRPCAgentClient(c)
	}
	direct := func() agentpb.DRPCAgentClient { return agentpb.NewDRPCAgentClient(s.NewConn()) }
	for name, open := range map[string]func() agentpb.DRPCAgentClient{"network": dial, "direct": direct} {
		taken.Store(0)
		for _, fault := range []wiretest.Fault{wiretest.CutBefore, wiretest.LoseReply} {
			s.SetFault(nil)
			api := open()
			if m, err := api.GetManifest(t.Context(), &agentpb.GetManifestRequest{}); err != nil || m.GetAgentName() != "main" {
				t.Errorf("%s: %v, %v", name, m, err)
			}
			if _, err := api.GetAnnouncementBanners(t.Context(), &agentpb.GetAnnouncementBannersRequest{}); err == nil || err.Error() != "the database is away" {
				t.Errorf("%s: error %v", name, err)
			}
			s.SetFault(func(wiretest.Call) wiretest.Fault { return fault })
			if _, err := api.ScriptCompleted(t.Context(), &agentpb.WorkspaceAgentScriptCompletedRequest{}); err == nil {
				t.Errorf("%s: a cut call succeeds", name)
			}
			if _, err := api.GetManifest(t.Context(), &agentpb.GetManifestRequest{}); err == nil {
				t.Errorf("%s: the session goes on", name)
			}
		}
		if n := taken.Load(); n != 1 {
			t.Errorf("%s: %d calls had an effect", name, n)
		}
	}
}
