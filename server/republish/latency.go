package republish

import (
	"math"
	"strconv"
	"strings"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// maxRegions bounds the regions that are shown of one agent.
const maxRegions = 64

// regionLatency is how far away a region's relay is from an agent.
type regionLatency struct {
	seconds   float64
	preferred bool
}

// regionLatencies reads what an agent published, by the name of the region. An
// agent measures over IPv4 and IPv6, and the lower counts. What is no measurement
// of a region, or one too many, is refused.
func regionLatencies(node *tailnetpb.Node, regions map[int64]*tailnetpb.DERPMap_Region) (m map[string]regionLatency, refused uint64) {
	m = make(map[string]regionLatency)
	for key, seconds := range node.GetDerpLatency() {
		text, ok := strings.CutSuffix(key, "-v4")
		if !ok {
			text, ok = strings.CutSuffix(key, "-v6")
		}
		id, err := strconv.ParseUint(text, 10, 31)
		if !ok || err != nil || math.IsNaN(seconds) || math.IsInf(seconds, 0) || seconds < 0 {
			refused++
			continue
		}
		name := regions[int64(id)].GetRegionName()
		if name == "" {
			name = "Unnamed " + strconv.FormatUint(id, 10)
		}
		l, known := m[name]
		if !known && len(m) >= maxRegions {
			refused++
			continue
		}
		if !known || seconds < l.seconds {
			l.seconds = seconds
		}
		l.preferred = l.preferred || node.GetPreferredDerp() == int32(id)
		m[name] = l
	}
	return m, refused
}

// addLatencies shows how far away relays are and returns how many of the node's
// values are not shown.
func (p *Publisher) addLatencies(b *exposition.Builder, node *tailnetpb.Node, regions map[int64]*tailnetpb.DERPMap_Region) (refused uint64) {
	latencies, refused := regionLatencies(node, regions)
	for name, l := range latencies {
		p.add(b, "coderd_agents_connection_latencies_seconds", l.seconds,
			exposition.Label{Name: "derp_region", Value: name}, exposition.Label{Name: "preferred", Value: strconv.FormatBool(l.preferred)})
	}
	return refused
}
