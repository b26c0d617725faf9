package agentapi_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// TestHTTP_TokensAreNotTriedForEver: an address that sends invalid tokens, to
// whatever endpoint, is told to wait. An agent behind the same address that was
// let in before still is.
func TestHTTP_TokensAreNotTriedForEver(t *testing.T) {
	w := newWorld(t, setup{})
	const key = "/api/v2/workspaceagents/me/gitsshkey"
	if status := w.get(key, w.token).StatusCode; status == http.StatusUnauthorized || status == http.StatusTooManyRequests {
		t.Fatalf("the agent's own token: %d", status)
	}
	paths := []string{rpcPath + "?version=2.6", key, "/api/v2/workspaceagents/me/reinit", "/api/v2/workspaceagents/me/external-auth?id=x"}
	refused, limited, began := 0, 0, time.Now()
	for i := 0; limited < 20 && i < 2000; i++ {
		resp := w.get(paths[i%len(paths)], uuid.NewString())
		resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusUnauthorized:
			refused++
		case http.StatusTooManyRequests:
			limited++
			if resp.Header.Get("Retry-After") == "" {
				t.Error("no time to wait is told")
			}
		default:
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	// One flows back every 200 ms while the test runs.
	if most := 200 + int(time.Since(began)/(200*time.Millisecond)); refused < 200 || refused > most || limited < 20 {
		t.Errorf("%d were refused, want 200 to %d; %d limited", refused, most, limited)
	}
	if n := w.count("worktally_agent_rejected_total", "reason", "too_many_failures"); n == "0" {
		t.Error("none was counted")
	}
	if status := w.get(key, w.token).StatusCode; status == http.StatusUnauthorized || status == http.StatusTooManyRequests {
		t.Errorf("a token that was valid before: %d", status)
	}
}

// TestHostile_MessageTooLarge: one call ends, and is counted.
func TestHostile_MessageTooLarge(t *testing.T) {
	w := newWorld(t, setup{})
	p := w.dial()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.UpdateStartup(ctx, &agentpb.UpdateStartupRequest{Startup: &agentpb.Startup{Version: strings.Repeat("x", wire.MaxMessage+1<<16)}}); err == nil {
		t.Error("it was taken")
	}
	poll(t, "the count", func() bool { return w.count("worktally_agent_rejected_total", "reason", "broken_call") == "1" })
	if _, err := p.GetManifest(ctx, &agentpb.GetManifestRequest{}); err != nil {
		t.Errorf("the session afterwards: %v", err)
	}
}

// TestHostile_ManyStreams has an agent begin far more calls than may run: the ones
// beyond wait or are reset, and the session of another agent does not notice.
func TestHostile_ManyStreams(t *testing.T) {
	w := newWorld(t, setup{})
	good, p := w.dial(), w.dial()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var streams sync.WaitGroup
	for range 600 {
		streams.Go(func() {
			if s, err := p.tailnet.StreamDERPMaps(ctx, &tailnetpb.StreamDERPMapsRequest{}); err == nil {
				_, _ = s.Recv() // what those beyond get is no matter
				<-ctx.Done()
			}
		})
	}
	for range 20 {
		if _, err := good.GetManifest(ctx, &agentpb.GetManifestRequest{}); err != nil {
			t.Fatalf("another session: %v", err)
		}
	}
	_ = p.Close()
	cancel()
	streams.Wait()
}

// slowCatalog answers no look-up until it is let go on.
type slowCatalog struct {
	agentapi.Catalog
	running, most atomic.Int64
	goOn          chan struct{}
}

func (c *slowCatalog) AgentByToken(ctx context.Context, token string) (catalog.Identity, error) {
	n := c.running.Add(1)
	defer c.running.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	<-c.goOn
	return c.Catalog.AgentByToken(ctx, token)
}

// TestHTTP_BeginningIsBounded has more agents come at once than may begin: they
// wait, and all are answered.
func TestHTTP_BeginningIsBounded(t *testing.T) {
	const limit, asked = 128, 180
	slow := &slowCatalog{goOn: make(chan struct{})}
	goOn := sync.OnceFunc(func() { close(slow.goOn) })
	w := newWorld(t, setup{options: func(o *agentapi.Options) { slow.Catalog, o.Catalog = o.Catalog, slow }})
	defer goOn()
	statuses := make(chan int, asked)
	for range asked {
		go func() {
			r, err := http.NewRequest(http.MethodGet, w.url+rpcPath+"?version=2.6", nil)
			if err == nil {
				r.Header.Set(wire.TokenHeader, uuid.NewString())
				var resp *http.Response
				if resp, err = http.DefaultTransport.RoundTrip(r); err == nil {
					resp.Body.Close()
					statuses <- resp.StatusCode
					return
				}
			}
			t.Error(err)
			statuses <- 0
		}()
	}
	poll(t, "as many as may begin", func() bool { return slow.running.Load() >= limit })
	goOn()
	for range asked {
		if status := <-statuses; status != http.StatusUnauthorized {
			t.Errorf("status %d", status)
		}
	}
	if most := slow.most.Load(); most != limit {
		t.Errorf("%d began at once, want %d", most, limit)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
