package tailnet

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"tailscale.com/tailcfg"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/tailnet/relay"
	"github.com/worktally/worktally/wire/tailnetpb"
)

func TestMain(m *testing.M) {
	PrepareProcess()
	testtool.Main(m)
}

type totals struct{ rx, tx, p2p atomic.Int64 }

func (t *totals) Packets(p *Peer, _ uint8, _, _ netip.AddrPort, _, bytes int, received bool) {
	if received {
		t.rx.Add(int64(bytes))
	} else {
		t.tx.Add(int64(bytes))
	}
	if p.Path() == PathP2P {
		t.p2p.Add(int64(bytes))
	}
}

func startRelay(t *testing.T) *url.URL {
	t.Helper()
	r, err := relay.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	r.Register(mux)
	s := httptest.NewServer(mux)
	t.Cleanup(func() { s.CloseClientConnections(); s.Close(); _ = r.Close() })
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func relayMap() *tailnetpb.DERPMap {
	return &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{}, Regions: map[int64]*tailnetpb.DERPMap_Region{999: {
		RegionId: 999, EmbeddedRelay: true, RegionCode: "r", RegionName: "R",
		Nodes: []*tailnetpb.DERPMap_Region_Node{{Name: "999b", RegionId: 999, HostName: "relay.invalid", DerpPort: 1, StunPort: -1}},
	}}}
}

func startNode(t *testing.T, u *url.URL, id uuid.UUID, c Counter) *Node {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("TAILNET_DEBUG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	n, err := New(Options{ID: id, AccessURL: u, Counter: c, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	if err := n.SetRelayMap(relayMap()); err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitSelf returns the node's description as soon as there is one.
func awaitSelf(t *testing.T, n *Node) *tailnetpb.Node {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		self, changed := n.Self()
		if self != nil {
			return self
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("the node has no home relay")
		}
	}
}

func TestNode_TwoOverTheRelayAndDirect(t *testing.T) {
	u := startRelay(t)
	agentID, clientID := uuid.New(), uuid.New()
	var counted totals
	start := time.Now()
	agent := startNode(t, u, agentID, &counted)
	client := startNode(t, u, uuid.Nil, nil)
	agentSelf := awaitSelf(t, agent)
	t.Logf("home relay up after %s", time.Since(start))
	clientSelf := awaitSelf(t, client)
	if i := agent.NetInfo(); i.Home != 999 || len(i.Public) != 0 {
		t.Errorf("what is known of a network without STUN: %+v", i)
	}
	l, err := agent.Listen(7)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	if err := agent.Upsert(clientID, clientSelf); err != nil {
		t.Fatal(err)
	}
	if err := client.Upsert(agentID, agentSelf); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	start = time.Now()
	if err := client.Reach(ctx, Primary(agentID)); err != nil {
		t.Fatal(err)
	}
	t.Logf("reached after %s", time.Since(start))
	c, err := client.DialTCP(ctx, netip.AddrPortFrom(Primary(agentID), 7))
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 1<<20)
	go func() {
		_, _ = c.Write(payload)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || len(got) != len(payload) {
		t.Fatalf("%d bytes came back: %v", len(got), err)
	}
	_ = c.Close()
	if rx, tx := counted.rx.Load(), counted.tx.Load(); rx < int64(len(payload)) || tx < int64(len(payload)) {
		t.Errorf("counted %d received, %d sent", rx, tx)
	}
	r, err := client.Ping(ctx, Primary(agentID))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ping %+v, direct bytes %d of %d", r, counted.p2p.Load(), counted.rx.Load()+counted.tx.Load())
	if _, err := client.DialTCP(ctx, netip.AddrPortFrom(Primary(agentID), 8)); err == nil {
		t.Error("a port without a listener was dialled")
	}
	agent.Remove(clientID)
}

func TestNode_NewAndCloseLeaveNothing(t *testing.T) {
	u := startRelay(t)
	for range 5 {
		n, err := New(Options{ID: uuid.New(), AccessURL: u})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.SetRelayMap(relayMap()); err != nil {
			t.Fatal(err)
		}
		awaitSelf(t, n)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

var _ net.Listener = (*listener)(nil)

// TestPublicAddresses: only what somebody else's STUN server saw is public.
func TestPublicAddresses(t *testing.T) {
	at := func(typ tailcfg.EndpointType, text string) tailcfg.Endpoint {
		return tailcfg.Endpoint{Type: typ, Addr: netip.MustParseAddrPort(text)}
	}
	got := publicAddresses([]tailcfg.Endpoint{
		at(tailcfg.EndpointSTUN, "127.0.0.1:7"), at(tailcfg.EndpointLocal, "192.0.2.1:7"), at(tailcfg.EndpointSTUN, "198.51.100.1:7"),
	})
	if len(got) != 1 || got[0] != netip.MustParseAddrPort("198.51.100.1:7") {
		t.Errorf("public: %v", got)
	}
}
