package agentapi

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/wire/worktallypb"
)

// The bounds of the gauges that are not series.
const (
	maxSessionNames = 64
	maxSessions     = 1 << 31 // of one name
	maxProtocols    = 32
	maxProtocolName = 64
)

// cleanGauges brings the typed gauges of a report into bounds. What a name
// belongs to is decided here again, not taken from the agent.
func (c *checker) cleanGauges(g *worktallypb.Gauges) {
	g.ConnectionCount = max(0, g.GetConnectionCount())
	g.MeasuredPeers = max(0, g.GetMeasuredPeers())
	if l := g.MedianLatencySeconds; l != nil && !(*l > 0 && *l < math.Inf(1)) {
		g.MedianLatencySeconds = nil
	}
	maps.DeleteFunc(g.ConnectionsByProto, func(name string, n int64) bool { return len(name) > maxProtocolName || n < 0 })
	if len(g.ConnectionsByProto) > maxProtocols {
		g.ConnectionsByProto = nil
	}
	counts := make(map[string]int64, len(g.Sessions))
	for _, o := range g.Sessions {
		if o.GetCount() > 0 {
			counts[appname.Normalize(o.GetAppName())] += min(o.GetCount(), maxSessions)
		}
	}
	g.Sessions = c.openSessions(counts)
}

// openSessions lists the names, known ones first, then by number. What is beyond
// the bound becomes unknown.
func (c *checker) openSessions(counts map[string]int64) []*worktallypb.OpenSessions {
	open := make([]*worktallypb.OpenSessions, 0, len(counts))
	for name, n := range counts {
		open = append(open, &worktallypb.OpenSessions{AppName: name, Family: string(appname.FamilyOf(name)), Count: n})
	}
	slices.SortFunc(open, func(x, y *worktallypb.OpenSessions) int {
		return cmp.Or(
			-cmp.Compare(boolInt(x.Family != string(appname.Unknown)), boolInt(y.Family != string(appname.Unknown))),
			-cmp.Compare(x.Count, y.Count), cmp.Compare(x.AppName, y.AppName))
	})
	if len(open) <= maxSessionNames {
		return open
	}
	rest := open[maxSessionNames:]
	open = open[:maxSessionNames:maxSessionNames] // rest stays as it is
	i := slices.IndexFunc(open, func(o *worktallypb.OpenSessions) bool { return o.AppName == appname.UnknownName })
	if i < 0 {
		i = len(open)
		open = append(open, &worktallypb.OpenSessions{AppName: appname.UnknownName, Family: string(appname.Unknown)})
	}
	for _, o := range rest {
		open[i].Count += o.Count
		c.rejected[reasonTooManyNames]++
	}
	return open
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
