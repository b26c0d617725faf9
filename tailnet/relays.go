package tailnet

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"google.golang.org/protobuf/proto"
	"tailscale.com/envknob"
	"tailscale.com/tailcfg"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// relays are the relays that the node may use, and what stands in front of them.
type relays struct {
	n    *Node
	stun *stunResponder
	// plain says that the library speaks to relays without TLS, to all of them.
	plain bool

	// mu guards everything below.
	mu    sync.Mutex
	wire  *tailnetpb.DERPMap
	shims map[string]*shim // by target
	force bool             // websockets only
	home  int
	local bool
}

func newRelays(n *Node) *relays {
	return &relays{n: n, plain: envknob.Bool(plainRelayKnob), shims: make(map[string]*shim)}
}

// The bounds of a relay map.
const (
	maxRegions        = 1024
	maxNodesPerRegion = 64
	// maxRegion is the largest number of a region: it stands where a port does.
	maxRegion = 1<<16 - 1
)

// SetRelayMap sets the relays. Those inside the server are reached the way the
// server is reached. A map that is equal to the last one changes nothing.
func (n *Node) SetRelayMap(m *tailnetpb.DERPMap) error {
	r := n.relays
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wire != nil && proto.Equal(r.wire, m) {
		return nil
	}
	converted, err := r.convertLocked(m)
	if err != nil {
		return fmt.Errorf("relay map: %w", err)
	}
	r.wire = proto.CloneOf(m)
	n.sock.SetDERPMap(converted)
	home := homeRegion(converted)
	if current := r.home; converted.Regions[current] != nil {
		home = current
	}
	if home == 0 {
		n.log.Warn("no region of the relay map has a relay")
		return nil
	}
	if got := n.sock.ForceSetNearestDERP(home); got != 0 {
		r.home = got
		n.self.setHome(got)
	}
	// Without a control connection the library would keep its first home for ever.
	n.health.GotStreamedMapResponse()
	return nil
}

// homeRegion is where the node begins: the server's own relay if there is one,
// otherwise the first that is not to be avoided.
func homeRegion(m *tailcfg.DERPMap) int {
	ids := make([]int, 0, len(m.Regions))
	for id, region := range m.Regions {
		if slices.ContainsFunc(region.Nodes, func(n *tailcfg.DERPNode) bool { return !n.STUNOnly }) && !region.Avoid {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return 0
	}
	return slices.Min(ids)
}

// convertLocked translates a map. The same map always gives the same result: a
// region that looks different is disconnected by the library.
func (r *relays) convertLocked(m *tailnetpb.DERPMap) (*tailcfg.DERPMap, error) {
	if len(m.GetRegions()) == 0 {
		return nil, errors.New("it has no region")
	}
	if len(m.GetRegions()) > maxRegions {
		return nil, fmt.Errorf("%d regions are too many", len(m.GetRegions()))
	}
	dm := &tailcfg.DERPMap{Regions: make(map[int]*tailcfg.DERPRegion, len(m.GetRegions())), HomeParams: &tailcfg.DERPHomeParams{}}
	r.local = false
	hasSTUN := false
	for id, region := range m.GetRegions() {
		if id <= 0 || id > maxRegion || len(region.GetNodes()) > maxNodesPerRegion {
			return nil, fmt.Errorf("region %d is out of bounds", id)
		}
		c := &tailcfg.DERPRegion{RegionID: int(id), RegionCode: region.GetRegionCode(), RegionName: region.GetRegionName(), Avoid: region.GetAvoid()}
		for _, node := range region.GetNodes() {
			converted, err := r.convertNodeLocked(int(id), region.GetEmbeddedRelay(), node)
			if err != nil {
				return nil, fmt.Errorf("region %d: %w", id, err)
			}
			c.Nodes = append(c.Nodes, converted)
			hasSTUN = hasSTUN || converted.STUNPort >= 0
		}
		// A region without a relay must never become home: nobody could reach the
		// node there.
		if !slices.ContainsFunc(c.Nodes, func(n *tailcfg.DERPNode) bool { return !n.STUNOnly }) {
			c.NoMeasureNoHome = true
		}
		if len(c.Nodes) > 0 {
			dm.Regions[int(id)] = c
		}
	}
	if !hasSTUN {
		if err := r.addSTUNLocked(dm); err != nil {
			return nil, err
		}
	}
	return dm, nil
}

func (r *relays) convertNodeLocked(region int, embedded bool, node *tailnetpb.DERPMap_Region_Node) (*tailcfg.DERPNode, error) {
	c := &tailcfg.DERPNode{
		Name: node.GetName(), RegionID: region, HostName: node.GetHostName(), CertName: node.GetCertName(), IPv4: node.GetIpv4(), IPv6: node.GetIpv6(),
		STUNPort: int(node.GetStunPort()), STUNOnly: node.GetStunOnly(), DERPPort: int(node.GetDerpPort()),
		InsecureForTests: node.GetInsecureForTests(), STUNTestIP: node.GetStunTestIp(), CanPort80: node.GetCanPort_80(),
	}
	plain := node.GetForceHttp()
	if embedded && !c.STUNOnly {
		host, port, insecure := reach(r.n.o.AccessURL)
		c.HostName, c.DERPPort, plain = host, port, insecure
		c.IPv4, c.IPv6 = "", ""
	}
	if c.STUNOnly {
		return c, nil
	}
	if ip, err := netip.ParseAddr(c.HostName); err == nil {
		// A literal of one family must not be probed in the other.
		r.local = r.local || ip.IsLoopback()
		if ip.Unmap().Is4() {
			c.IPv4, c.IPv6 = ip.String(), "none"
		} else {
			c.IPv4, c.IPv6 = "none", ip.String()
		}
	}
	c.DERPPort = cmp.Or(c.DERPPort, defaultPort(plain))
	if plain == r.plain && !r.force && r.n.o.RelayHeader == nil && (plain || r.libraryVerifies(c)) {
		return c, nil
	}
	return c, r.shieldLocked(c, plain)
}

// libraryVerifies says whether the library's own TLS will do. It knows neither the
// authorities (its latency probe, at least) nor the certificates of Options.TLS, and
// of a relay that is named by address it accepts the certificate of any name.
func (r *relays) libraryVerifies(c *tailcfg.DERPNode) bool {
	if c.CertName != "" || c.InsecureForTests {
		return true // only it knows about these
	}
	_, err := netip.ParseAddr(c.HostName)
	return err != nil && r.n.o.TLS == nil
}

// reach says how the server's relay is reached: like the server.
func reach(u *url.URL) (host string, port int, plain bool) {
	plain = u.Scheme == "http"
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		port = defaultPort(plain)
	}
	return u.Hostname(), port, plain
}

func defaultPort(plain bool) int {
	if plain {
		return 80
	}
	return 443
}

// shieldLocked puts a shim before a relay that the library cannot speak to: it
// knows either TLS or plain HTTP, and neither headers, websockets nor our settings of
// TLS.
func (r *relays) shieldLocked(c *tailcfg.DERPNode, plain bool) error {
	scheme := "https"
	if plain {
		scheme = "http"
	}
	target := &url.URL{Scheme: scheme, Host: net.JoinHostPort(c.HostName, strconv.Itoa(c.DERPPort))}
	s, known := r.shims[target.String()]
	if !known {
		var err error
		if s, err = newShim(target, r.plain, r.n.o.RelayHeader, r.n.o.clientTLS(), r.force, r.n.log); err != nil {
			return err
		}
		r.shims[target.String()] = s
	}
	c.HostName, c.IPv4, c.IPv6, c.DERPPort, c.CertName = "127.0.0.1", "127.0.0.1", "none", s.port, s.certName
	return nil
}

// addSTUNLocked adds a STUN server of the node's own to every region with a
// relay. Without any the library takes its sockets for broken and rebinds them
// every half minute.
func (r *relays) addSTUNLocked(dm *tailcfg.DERPMap) error {
	if r.stun == nil {
		s, err := newSTUNResponder()
		if err != nil {
			return err
		}
		r.stun = s
	}
	for id, region := range dm.Regions {
		region.Nodes = append(region.Nodes, &tailcfg.DERPNode{
			Name: strconv.Itoa(id) + "self", RegionID: id, HostName: "127.0.0.1", IPv4: "127.0.0.1", IPv6: "none", STUNOnly: true, STUNPort: r.stun.port,
		})
	}
	return nil
}

// loopback says whether the relays are on this machine.
func (r *relays) loopback() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.local
}

// ForceWebsockets makes connections to relays websockets. Set it before the
// first relay map.
func (n *Node) ForceWebsockets(force bool) {
	n.relays.mu.Lock()
	n.relays.force = force
	n.relays.mu.Unlock()
}

func (r *relays) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.shims {
		s.close()
	}
	if r.stun != nil {
		r.stun.close()
	}
}
