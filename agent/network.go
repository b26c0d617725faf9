package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/agentnet"
	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/clienttls"
	"github.com/worktally/worktally/tailnet"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// network is the agent's place on the tailnet. It begins with the first manifest
// and outlives sessions with the server.
type network struct {
	a    *Agent
	node *tailnet.Node
	http *http.Server
	life context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup

	// mu guards closed: nothing is started after it is set.
	mu     sync.Mutex
	closed bool

	// probing serialises probes and guards probed, the end of the last one.
	probing sync.Mutex
	probed  time.Time
}

// tailnetTally counts what the node exchanges with peers.
type tailnetTally struct{ t *stats.Tally }

// Packets implements tailnet.Counter.
func (c tailnetTally) Packets(p *tailnet.Peer, proto uint8, local, remote netip.AddrPort, packets, bytes int, received bool) {
	path := stats.PathDERP
	if p.Path() == tailnet.PathP2P {
		path = stats.PathP2P
	}
	c.t.Packets(path, proto, local, remote, packets, bytes, received)
}

// startNetwork joins the tailnet with what the first manifest says and serves
// the agent's ports on it.
func (a *Agent) startNetwork(w *serving) (*network, error) {
	m := a.manifest.Load()
	o := tailnet.Options{
		ID: uuid.UUID(m.GetAgentId()), AccessURL: a.o.URL, ListenPort: a.o.TailnetListenPort, TLS: clienttls.ConfigOf(a.o.HTTPClient), Counter: tailnetTally{a.tally}, ControlPort: agentnet.PortHTTP, Log: a.log,
	}
	if a.o.Header != nil {
		o.RelayHeader = a.relayHeader
	}
	node, err := tailnet.New(o)
	if err != nil {
		return nil, err
	}
	n := &network{a: a, node: node}
	n.life, n.end = context.WithCancel(context.Background())
	node.HandleOther(n.handlers(w))
	node.HandleDatagrams(n.datagramHandler())
	if err := n.serveHTTP(); err != nil {
		n.close()
		return nil, err
	}
	n.apply(m)
	return n, nil
}

func (a *Agent) relayHeader() http.Header {
	h, err := a.o.Header(context.Background())
	if err != nil {
		a.log.Warn("headers for the relay", "err", err)
		return http.Header{}
	}
	return h
}

// handlers chooses who serves a connection of a peer, by port.
func (n *network) handlers(w *serving) func(local, remote netip.AddrPort) tailnet.Handler {
	tests, forwards := n.bounded(maxSpeedtests), n.bounded(maxPortForwards)
	ports := map[uint16]tailnet.Handler{agentnet.PortSpeedtest: n.handler("speed test", tests(agentnet.Speedtest))}
	if w.ssh != nil {
		ports[agentnet.PortSSH], ports[agentnet.PortStandardSSH] = w.ssh.HandleTrusted, w.ssh.HandleTrusted
	}
	if w.pty != nil {
		ports[agentnet.PortTerminal] = w.pty.Handle
	}
	return func(local, _ netip.AddrPort) tailnet.Handler {
		port := local.Port()
		if h, ok := ports[port]; ok || port < agentnet.FirstFreePort {
			return h
		}
		return n.handler("forward a port", forwards(func(ctx context.Context, c net.Conn) error { return agentnet.Splice(ctx, c, port) }))
	}
}

// What peers may have open at a time, all of them together.
const (
	// maxDatagramForwards are pairs of UDP ports; each has two buffers of 64 KiB.
	maxDatagramForwards = 256
	// maxPortForwards are connections to ports of the workspace; each has two buffers
	// of 32 KiB, a descriptor, and what is on its way.
	maxPortForwards = 2000
	// maxSpeedtests: each sends a block of 2 MiB.
	maxSpeedtests = 16
	// maxAPIConns are connections to the HTTP API, maxAPIHeader what the header of a
	// request may have.
	maxAPIConns  = 256
	maxAPIHeader = 64 << 10
)

type server = func(context.Context, net.Conn) error

// bounded returns what lets as many of the connections be served at a time as the
// limit says; more are closed and counted.
func (n *network) bounded(limit int) func(server) server {
	places := make(chan struct{}, limit)
	return func(serve server) server {
		return func(ctx context.Context, c net.Conn) error {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
				return serve(ctx, c)
			default:
				n.a.tally.Drop(stats.DropForwards, 1)
				return c.Close()
			}
		}
	}
}

// datagramHandler forwards UDP to the loopback.
func (n *network) datagramHandler() func(local, remote netip.AddrPort) tailnet.Handler {
	forwards := n.bounded(maxDatagramForwards)
	return func(local, _ netip.AddrPort) tailnet.Handler {
		return n.handler("forward a UDP port", forwards(func(ctx context.Context, c net.Conn) error {
			return agentnet.SpliceDatagrams(ctx, c, local.Port())
		}))
	}
}

// handler serves a connection until it or the network ends.
func (n *network) handler(what string, serve func(context.Context, net.Conn) error) tailnet.Handler {
	return func(c net.Conn) {
		if !n.enter() {
			_ = c.Close()
			return
		}
		defer n.wg.Done()
		if err := serve(n.life, c); err != nil {
			n.a.log.Debug(what, "err", err)
		}
	}
}

// enter says whether the network goes on; then wg waits for whoever entered.
func (n *network) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.wg.Add(1)
	}
	return !n.closed
}

// serveHTTP serves the HTTP API until the node is closed.
func (n *network) serveHTTP() error {
	l, err := n.node.Listen(agentnet.PortHTTP)
	if err != nil {
		return err
	}
	debug := http.NewServeMux()
	debug.Handle("/debug/prometheus", n.a.MetricsHandler())
	debug.Handle("/", n.a.DebugHandler())
	n.http = &http.Server{
		Handler:     agentnet.NewAPI(agentnet.Options{Netcheck: n.netcheck, Debug: debug, HiddenPorts: n.a.hiddenPorts}),
		ReadTimeout: agentnet.ReadTimeout, WriteTimeout: agentnet.WriteTimeout,
		MaxHeaderBytes: maxAPIHeader, ConnState: n.boundAPI(maxAPIConns),
	}
	n.wg.Go(func() {
		if err := n.http.Serve(l); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
			n.a.log.Error("the HTTP API is no longer served on the tailnet", "err", err)
		}
	})
	return nil
}

// boundAPI closes and counts connections of the HTTP API beyond a limit.
func (n *network) boundAPI(limit int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			if open.Add(1) > limit {
				n.a.tally.Drop(stats.DropForwards, 1)
				_ = c.Close() // the server notices, and says that it is closed
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}

// hiddenPorts are the agent's own, which are nobody's business.
func (a *Agent) hiddenPorts() []uint16 {
	ports := slices.Clone(a.o.HiddenPorts)
	for _, l := range []net.Listener{a.o.MetricsListener, a.o.SSHListener} {
		if l != nil {
			if t, ok := l.Addr().(*net.TCPAddr); ok {
				ports = append(ports, uint16(t.Port))
			}
		}
	}
	return ports
}

// apply takes in what a manifest says about the network.
func (n *network) apply(m *agentpb.Manifest) {
	n.node.ForceWebsockets(m.GetDerpForceWebsockets())
	n.node.BlockDirect(m.GetDisableDirectConnections())
	if m.GetDerpMap() == nil {
		n.a.log.Warn("the manifest has no relay map; nobody can reach the agent until the server sends one")
		return
	}
	if err := n.node.SetRelayMap(m.GetDerpMap()); err != nil {
		n.a.log.Error("the manifest's relay map cannot be used", "err", err)
	}
}

const (
	// probeFresh is how old what is known about peers may be on the page.
	probeFresh  = 15 * time.Second
	probeWithin = 5 * time.Second
)

// probe pings the active peers, so that a report or the page knows how far away
// they are. Probes that are asked for at once share one.
func (n *network) probe(ctx context.Context) {
	n.probing.Lock()
	defer n.probing.Unlock()
	if time.Since(n.probed) < time.Second {
		return
	}
	n.a.tally.SetPeers(n.pingAll(ctx))
	n.probed = time.Now()
}

// probeForWindow is called before a report window is cut.
func (a *Agent) probeForWindow(ctx context.Context) {
	if n := a.net.Load(); n != nil {
		n.probe(ctx)
	}
}

// probeForPage starts a probe if the page would show something old. The page
// does not wait for it.
func (a *Agent) probeForPage() {
	n := a.net.Load()
	if n == nil || !n.probing.TryLock() {
		return
	}
	old := time.Since(n.probed) > probeFresh
	n.probing.Unlock()
	if old && n.enter() {
		go func() { // wg waits for it
			defer n.wg.Done()
			n.probe(n.life)
		}()
	}
}

func (n *network) pingAll(ctx context.Context) stats.Peers {
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	var mu sync.Mutex
	var times []time.Duration
	var found stats.Peers
	var wg sync.WaitGroup
	for _, peer := range n.node.Active() {
		wg.Go(func() {
			r, err := n.node.Ping(ctx, peer.Addresses[0])
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, r.RoundTrip)
			if r.Path == tailnet.PathP2P {
				found.P2P++
			} else {
				found.DERP++
			}
			if !peer.Person() {
				found.Control++
			}
			n.a.tally.RoundTrip(stats.Path(r.Path.String()), r.RoundTrip)
		})
	}
	wg.Wait()
	found.Measured, found.MedianLatency = len(times), median(times)
	return found
}

// median of an even number is the mean of the two in the middle.
func median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	middle := len(times) / 2
	if len(times)%2 == 1 {
		return times[middle]
	}
	return (times[middle-1] + times[middle]) / 2
}

// followRelays and coordinate are routines of the session with the server.
func (a *Agent) followRelays(ctx context.Context, api agentpb.DRPCAgentClient) error {
	n, err := a.awaitNetwork(ctx)
	if err != nil {
		return err
	}
	return n.node.FollowRelayMaps(ctx, tailnetpb.NewDRPCTailnetClient(api.DRPCConn()))
}

func (a *Agent) coordinate(ctx context.Context, api agentpb.DRPCAgentClient) error {
	n, err := a.awaitNetwork(ctx)
	if err != nil {
		return err
	}
	return n.node.Coordinate(ctx, tailnetpb.NewDRPCTailnetClient(api.DRPCConn()))
}

func (a *Agent) awaitNetwork(ctx context.Context) (*network, error) {
	select {
	case <-a.netUp:
		return a.net.Load(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.end()
	if n.http != nil {
		_ = n.http.Close()
	}
	_ = n.node.Close()
	n.wg.Wait()
}
