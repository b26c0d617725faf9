package tailnet

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// introduce keeps telling one node about the other until the test ends.
func introduce(t *testing.T, to, about *Node, id uuid.UUID) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			self, changed := about.Self()
			if self != nil {
				if err := to.Upsert(id, self); err != nil {
					t.Error(err)
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// awaitPath pings until the peer is reached on the path.
func awaitPath(t *testing.T, n *Node, to netip.Addr, want Path) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		r, err := n.Ping(ctx, to)
		cancel()
		if err == nil && r.Path == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the peer is not reached on path %s: %+v %v", want, r, err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

func TestNode_FindsTheDirectPathAndLeavesItWhenBlocked(t *testing.T) {
	u := startRelay(t)
	agentID, clientID := uuid.New(), uuid.New()
	agent, client := startNode(t, u, agentID, nil), startNode(t, u, uuid.Nil, nil)
	introduce(t, agent, client, clientID)
	introduce(t, client, agent, agentID)
	awaitPath(t, client, Primary(agentID), PathP2P)
	agent.BlockDirect(true)
	awaitPath(t, client, Primary(agentID), PathDERP)
	if self, _ := agent.Self(); len(self.GetEndpoints()) > 0 {
		t.Errorf("endpoints are told although they are blocked: %v", self.GetEndpoints())
	}
}

func TestNode_RefusesLyingPeers(t *testing.T) {
	u := startRelay(t)
	n := startNode(t, u, uuid.New(), nil)
	other := startNode(t, u, uuid.New(), nil)
	self := awaitSelf(t, other)
	first := uuid.New()
	if err := n.Upsert(first, self); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*tailnetpb.Node){
		"the address of another peer": func(m *tailnetpb.Node) { m.Key[33] ^= 1 },
		"the key of another peer":     func(m *tailnetpb.Node) { m.Addresses = []string{RandomPrimary().String() + "/128"} },
		"no key":                      func(m *tailnetpb.Node) { m.Key = nil },
		"a short key":                 func(m *tailnetpb.Node) { m.Key = m.Key[:20] },
		"a key without prefix":        func(m *tailnetpb.Node) { m.Key = append([]byte("xx"), m.Key[2:]...) },
		"a bad disco key":             func(m *tailnetpb.Node) { m.Disco = "discokey:zz" },
		"no address":                  func(m *tailnetpb.Node) { m.Addresses = nil },
		"a network":                   func(m *tailnetpb.Node) { m.AllowedIps = []string{"fd7a::/48"} },
		"many addresses":              func(m *tailnetpb.Node) { m.Addresses = make([]string, 100) },
		"a key of zeros":              func(m *tailnetpb.Node) { clear(m.Key[2:]) },
		"the node's own key":          func(m *tailnetpb.Node) { copy(m.Key[2:], rawKey(n)) },
		"the node's own address":      func(m *tailnetpb.Node) { m.Addresses = texts(n.prefixes()) },
		"a disco key of zeros":        func(m *tailnetpb.Node) { m.Disco = "discokey:" + strings.Repeat("0", 64) },
		"a negative home":             func(m *tailnetpb.Node) { m.PreferredDerp = -1 },
		"a home beyond all regions":   func(m *tailnetpb.Node) { m.PreferredDerp = 1 << 16 },
		"an endpoint that is none":    func(m *tailnetpb.Node) { m.Endpoints = []string{"localhost"} },
	} {
		m := proto.CloneOf(self)
		if !strings.HasSuffix(name, "of another peer") { // the rest is somebody else's
			m.Key[33] ^= 2
			m.Addresses = []string{RandomPrimary().String() + "/128"}
		}
		change(m)
		if err := n.Upsert(uuid.New(), m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if got := n.Peers(); len(got) != 1 || got[0].ID != first {
		t.Errorf("%d peers", len(got))
	}
	if err := n.Upsert(uuid.New(), &tailnetpb.Node{}); err != nil {
		t.Errorf("a node without home is an error: %v", err)
	}
	n.Peers()[0].person.Store(true)
	changed := proto.CloneOf(self)
	changed.Endpoints = append(changed.Endpoints, "192.0.2.1:9")
	if err := n.Upsert(first, changed); err != nil || !n.Peers()[0].Person() {
		t.Errorf("a person with another endpoint is none any more (%v)", err)
	}
	second := uuid.New()
	if err := n.Upsert(second, self); err != nil {
		t.Errorf("the same node under another id: %v", err)
	}
	if got := n.Peers(); len(got) != 1 || got[0].ID != second {
		t.Errorf("peers %v", got)
	}
	n.Remove(first) // it is not known under this id any more
	if got := n.Peers(); len(got) != 1 {
		t.Errorf("%d peers after the former id was removed", len(got))
	}
	n.Remove(second)
	n.Remove(second)
	if got := n.Peers(); len(got) != 0 {
		t.Errorf("%d peers after removal", len(got))
	}
}

func TestNode_RelayMaps(t *testing.T) {
	u := startRelay(t)
	n := startNode(t, u, uuid.New(), nil)
	for name, m := range map[string]*tailnetpb.DERPMap{
		"no region":      {},
		"region 0":       {Regions: map[int64]*tailnetpb.DERPMap_Region{0: {}}},
		"too many nodes": {Regions: map[int64]*tailnetpb.DERPMap_Region{5: {Nodes: make([]*tailnetpb.DERPMap_Region_Node, 1000)}}},
	} {
		if err := n.SetRelayMap(m); err == nil || !strings.HasPrefix(err.Error(), "relay map") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A map without any relay is taken, and the node stays where it is.
	if err := n.SetRelayMap(&tailnetpb.DERPMap{Regions: map[int64]*tailnetpb.DERPMap_Region{
		7: {RegionId: 7, Nodes: []*tailnetpb.DERPMap_Region_Node{{Name: "7s", HostName: "127.0.0.1", StunOnly: true, StunPort: 3478}}},
	}}); err != nil {
		t.Error(err)
	}
	recorded := new(tailnetpb.DERPMap)
	if err := proto.Unmarshal(vectors.Read(t, "rpc/010-StreamDERPMaps-response-01.pb"), recorded); err != nil {
		t.Fatal(err)
	}
	if err := n.SetRelayMap(recorded); err != nil {
		t.Error(err)
	}
	awaitSelf(t, n)
}

func TestAddresses_AreTheContracts(t *testing.T) {
	id := uuid.MustParse("11111111-2222-3333-4444-555555555555")
	if got := fmt.Sprint(Primary(id), " ", Secondary(id)); got != "fd7a:115c:a1e0:3333:4444:5555:5555:5555 fd60:627a:a42b:3333:4444:5555:5555:5555" {
		t.Error(got)
	}
	recorded := new(tailnetpb.CoordinateRequest)
	if err := proto.Unmarshal(vectors.Read(t, "rpc/011-Coordinate-request-01.pb"), recorded); err != nil {
		t.Fatal(err)
	}
	node := recorded.GetUpdateSelf().GetNode()
	agent := uuid.MustParse("91c8da24-df6f-4160-b2ad-372a95c32fd2")
	if node.GetId() != agentNodeID(agent) || node.GetAddresses()[0] != Primary(agent).String()+"/128" || node.GetAddresses()[1] != Secondary(agent).String()+"/128" {
		t.Errorf("%d %v", agentNodeID(agent), node)
	}
}

// FuzzPeer: no node that a coordinator may name can crash the node.
func FuzzPeer(f *testing.F) {
	for _, e := range vectors.Index(f) {
		if e.Message != "coder.tailnet.v2.CoordinateResponse" {
			continue
		}
		r := new(tailnetpb.CoordinateResponse)
		if err := proto.Unmarshal(vectors.Read(f, "rpc/"+e.File), r); err != nil {
			f.Fatal(err)
		}
		for _, u := range r.GetPeerUpdates() {
			if b, err := proto.Marshal(u.GetNode()); err == nil {
				f.Add(b)
			}
		}
	}
	n, err := New(Options{ID: uuid.New(), AccessURL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = n.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		node := new(tailnetpb.Node)
		if proto.Unmarshal(b, node) != nil {
			return
		}
		id := uuid.New()
		if n.Upsert(id, node) == nil {
			n.Remove(id)
		}
		if len(n.Peers()) != 0 {
			t.Fatal("a peer is left over")
		}
	})
}

// FuzzRelayMap: no relay map can crash the node.
func FuzzRelayMap(f *testing.F) {
	f.Add(vectors.Read(f, "rpc/010-StreamDERPMaps-response-01.pb"))
	n, err := New(Options{ID: uuid.New(), AccessURL: &url.URL{Scheme: "https", Host: "127.0.0.1:1"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = n.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(tailnetpb.DERPMap)
		if proto.Unmarshal(b, m) != nil {
			return
		}
		// Shims listen on ports; a map of the fuzzer's may name very many relays.
		for _, r := range m.GetRegions() {
			for _, node := range r.GetNodes() {
				node.ForceHttp = false
			}
		}
		_, _ = n.relays.convertLocked(m)
	})
}
