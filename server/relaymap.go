package server

import (
	"net/url"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// The region of the server itself (contract tailnet.md section 6.1).
const (
	regionID   = 999
	regionCode = "coder"
	regionName = "Coder Embedded Relay"
)

// relayMap returns the one map that everybody is told. Home params are never
// left out: a stock agent crashes without them.
func relayMap(access *url.URL) func() *tailnetpb.DERPMap {
	host, port := access.Hostname(), access.Port()
	n, err := strconv.Atoi(port)
	if err != nil {
		n = 443
		if access.Scheme == "http" {
			n = 80
		}
	}
	m := &tailnetpb.DERPMap{
		HomeParams: &tailnetpb.DERPMap_HomeParams{},
		Regions: map[int64]*tailnetpb.DERPMap_Region{regionID: {
			RegionId: regionID, EmbeddedRelay: true, RegionCode: regionCode, RegionName: regionName,
			Nodes: []*tailnetpb.DERPMap_Region_Node{{
				Name: strconv.Itoa(regionID) + "b", RegionId: regionID, HostName: host, DerpPort: int32(n),
				StunPort: -1, ForceHttp: access.Scheme == "http",
			}},
		}},
	}
	return func() *tailnetpb.DERPMap { return proto.CloneOf(m) }
}
