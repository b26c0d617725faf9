package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// Relays says over which relays peers meet. The zero value is the server's own
// relay and no STUN.
type Relays struct {
	// Disable turns the server's own relay off; ConfigFile must name others then.
	Disable bool
	// RegionID, RegionCode and RegionName are those of the server's own relay; the
	// zero values mean 999, "coder" and "Coder Embedded Relay", which clients know.
	RegionID               int
	RegionCode, RegionName string
	// STUN are host:port of STUN servers that peers may ask.
	STUN []string
	// ConfigFile is a relay map in Tailscale's JSON form with further regions.
	ConfigFile string
	// BlockDirect keeps peers on relays.
	BlockDirect bool
	// ForceWebsockets makes peers reach relays by websocket.
	ForceWebsockets bool
}

// maxRegion is the largest number of a region that peers accept.
const maxRegion = 1<<16 - 1

func (r Relays) withDefaults() Relays {
	if r.RegionID == 0 {
		r.RegionID = 999
	}
	if r.RegionCode == "" {
		r.RegionCode = "coder"
	}
	if r.RegionName == "" {
		r.RegionName = "Coder Embedded Relay"
	}
	if r.BlockDirect {
		r.STUN = nil
	}
	return r
}

// relayMap returns the one map that everybody is told (contract tailnet.md
// section 6.1). Home params are never left out and no region is without a node:
// stock peers crash otherwise.
func relayMap(access *url.URL, r Relays) (func() *tailnetpb.DERPMap, error) {
	r = r.withDefaults()
	m := &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{}, Regions: map[int64]*tailnetpb.DERPMap_Region{}}
	if r.ConfigFile != "" {
		if err := readRegions(m, r.ConfigFile); err != nil {
			return nil, fmt.Errorf("relay map %s: %w", r.ConfigFile, err)
		}
	}
	if r.RegionID < 0 || r.RegionID+len(r.STUN) > maxRegion {
		return nil, fmt.Errorf("region %d is not between 1 and %d, or the STUN servers' regions after it are not", r.RegionID, maxRegion)
	}
	if !r.Disable {
		if err := addRegion(m, embeddedRegion(access, r)); err != nil {
			return nil, err
		}
	}
	for i, address := range r.STUN {
		region, err := stunRegion(r.RegionID+1+i, address)
		if err != nil {
			return nil, err
		}
		if err := addRegion(m, region); err != nil {
			return nil, err
		}
	}
	if r.BlockDirect {
		withoutSTUN(m)
	}
	if !hasRelay(m) {
		return nil, errors.New("there is no relay: the server's own is off and no other is named")
	}
	return func() *tailnetpb.DERPMap { return proto.CloneOf(m) }, nil
}

// addRegion adds a region of our own, whose number no file may have taken.
func addRegion(m *tailnetpb.DERPMap, region *tailnetpb.DERPMap_Region) error {
	id := region.GetRegionId()
	if taken := m.Regions[id]; taken != nil {
		return fmt.Errorf("region %d is needed for %q and taken by %q; number one of them otherwise (--derp-server-region-id, --derp-config-path)", id, region.GetRegionName(), taken.GetRegionName())
	}
	m.Regions[id] = region
	return nil
}

// hasRelay says whether some node of the map is more than a STUN server.
func hasRelay(m *tailnetpb.DERPMap) bool {
	for _, region := range m.Regions {
		for _, n := range region.Nodes {
			if !n.GetStunOnly() {
				return true
			}
		}
	}
	return false
}

func embeddedRegion(access *url.URL, r Relays) *tailnetpb.DERPMap_Region {
	port, err := strconv.Atoi(access.Port())
	if err != nil {
		port = 443
		if access.Scheme == "http" {
			port = 80
		}
	}
	return &tailnetpb.DERPMap_Region{
		RegionId: int64(r.RegionID), EmbeddedRelay: true, RegionCode: r.RegionCode, RegionName: r.RegionName,
		Nodes: []*tailnetpb.DERPMap_Region_Node{{
			Name: strconv.Itoa(r.RegionID) + "b", RegionId: int64(r.RegionID), HostName: access.Hostname(), DerpPort: int32(port),
			StunPort: -1, ForceHttp: access.Scheme == "http",
		}},
	}
}

func stunRegion(id int, address string) (*tailnetpb.DERPMap_Region, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("STUN server %q: %w", address, err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("STUN server %q: the port is none", address)
	}
	n := strconv.Itoa(id)
	return &tailnetpb.DERPMap_Region{
		RegionId: int64(id), RegionCode: "coder_stun_" + n, RegionName: "Coder STUN " + n,
		Nodes: []*tailnetpb.DERPMap_Region_Node{{Name: n + "stun0", RegionId: int64(id), HostName: host, StunOnly: true, StunPort: int32(port)}},
	}, nil
}

// withoutSTUN takes away what peers would find direct paths with.
func withoutSTUN(m *tailnetpb.DERPMap) {
	for id, region := range m.Regions {
		var nodes []*tailnetpb.DERPMap_Region_Node
		for _, n := range region.Nodes {
			if !n.GetStunOnly() {
				n.StunPort = -1
				nodes = append(nodes, n)
			}
		}
		if region.Nodes = nodes; len(nodes) == 0 {
			delete(m.Regions, id)
		}
	}
}

// jsonMap is a relay map as Tailscale writes it.
type jsonMap struct {
	Regions map[int64]struct {
		RegionID               int64
		RegionCode, RegionName string
		Avoid                  bool
		Nodes                  []jsonRelay
	}
}

type jsonRelay struct {
	Name, HostName, CertName, IPv4, IPv6, STUNTestIP string
	RegionID                                         int64
	STUNPort, DERPPort                               int32
	STUNOnly, InsecureForTests, ForceHTTP, CanPort80 bool
}

// readRegions adds the regions of a file to a map.
func readRegions(m *tailnetpb.DERPMap, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var in jsonMap
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	for id, region := range in.Regions {
		if id <= 0 || id > maxRegion || region.RegionID != id || len(region.Nodes) == 0 {
			return fmt.Errorf("region %d: its number is wrong or it has no node", id)
		}
		out := &tailnetpb.DERPMap_Region{RegionId: id, RegionCode: region.RegionCode, RegionName: region.RegionName, Avoid: region.Avoid}
		for _, n := range region.Nodes {
			out.Nodes = append(out.Nodes, &tailnetpb.DERPMap_Region_Node{
				Name: n.Name, RegionId: id, HostName: n.HostName, CertName: n.CertName, Ipv4: n.IPv4, Ipv6: n.IPv6,
				StunPort: n.STUNPort, StunOnly: n.STUNOnly, DerpPort: n.DERPPort, InsecureForTests: n.InsecureForTests,
				ForceHttp: n.ForceHTTP, StunTestIp: n.STUNTestIP, CanPort_80: n.CanPort80,
			})
		}
		m.Regions[id] = out
	}
	return nil
}
