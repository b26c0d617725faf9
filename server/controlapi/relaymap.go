package controlapi

import (
	"net/http"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// relayMap is a relay map as clients read it from JSON (contract client-api.md
// section 5). It has to say exactly what the one on the wire says: a client drops
// its connection to a region that looks different.
type relayMap struct {
	HomeParams homeParams
	Regions    map[int64]relayRegion
}

type homeParams struct {
	RegionScore map[int64]float64 `json:",omitempty"`
}

type relayRegion struct {
	EmbeddedRelay          bool
	RegionID               int64
	RegionCode, RegionName string
	Avoid                  bool `json:",omitempty"`
	Nodes                  []relayNode
}

type relayNode struct {
	Name             string
	RegionID         int64
	HostName         string
	CertName         string `json:",omitempty"`
	IPv4             string `json:",omitempty"`
	IPv6             string `json:",omitempty"`
	STUNPort         int32  `json:",omitempty"`
	STUNOnly         bool   `json:",omitempty"`
	DERPPort         int32  `json:",omitempty"`
	InsecureForTests bool   `json:",omitempty"`
	ForceHTTP        bool   `json:",omitempty"`
	STUNTestIP       string `json:",omitempty"`
	CanPort80        bool   `json:",omitempty"`
}

func asRelayMap(m *tailnetpb.DERPMap) relayMap {
	out := relayMap{HomeParams: homeParams{m.GetHomeParams().GetRegionScore()}, Regions: make(map[int64]relayRegion)}
	for id, r := range m.GetRegions() {
		region := relayRegion{
			EmbeddedRelay: r.GetEmbeddedRelay(), RegionID: r.GetRegionId(), RegionCode: r.GetRegionCode(), RegionName: r.GetRegionName(),
			Avoid: r.GetAvoid(),
		}
		for _, n := range r.GetNodes() {
			region.Nodes = append(region.Nodes, relayNode{
				Name: n.GetName(), RegionID: n.GetRegionId(), HostName: n.GetHostName(), CertName: n.GetCertName(),
				IPv4: n.GetIpv4(), IPv6: n.GetIpv6(), STUNPort: n.GetStunPort(), STUNOnly: n.GetStunOnly(), DERPPort: n.GetDerpPort(),
				InsecureForTests: n.GetInsecureForTests(), ForceHTTP: n.GetForceHttp(), STUNTestIP: n.GetStunTestIp(), CanPort80: n.GetCanPort_80(),
			})
		}
		out.Regions[id] = region
	}
	return out
}

// connectionInfo is how agents are reached.
type connectionInfo struct {
	DERPMap                  relayMap `json:"derp_map"`
	DERPForceWebsockets      bool     `json:"derp_force_websockets"`
	DisableDirectConnections bool     `json:"disable_direct_connections"`
	HostnameSuffix           string   `json:"hostname_suffix"`
}

// agentConnection tells how one agent is reached: like all others.
func (a *API) agentConnection(w http.ResponseWriter, r *http.Request, who catalog.User) {
	if _, ok := a.findAgent(w, r, who); ok {
		a.connection(w, r, who)
	}
}

func (a *API) connection(w http.ResponseWriter, _ *http.Request, _ catalog.User) {
	a.reply(w, http.StatusOK, connectionInfo{
		DERPMap: asRelayMap(a.o.DERPMap()), DERPForceWebsockets: a.o.ForceWebsockets,
		DisableDirectConnections: a.o.BlockDirect, HostnameSuffix: a.o.HostnameSuffix,
	})
}
