package agentapi

import (
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/worktallypb"
)

// Why a series is not taken (contract metrics.md section 8).
const (
	reasonInvalidName     = "invalid_name"
	reasonInvalidLabel    = "invalid_label"
	reasonInvalidValue    = "invalid_value"
	reasonNotAllowed      = "not_allowed"
	reasonNotCollected    = "not_collected"
	reasonNoType          = "no_type"
	reasonTypeConflict    = "type_conflict"
	reasonDuplicate       = "duplicate"
	reasonTooMany         = "too_many_series"
	reasonTooManyFamilies = "too_many_families"
	reasonTooManyOwn      = "too_many_families_of_workspace"
	reasonTooManyNames    = "too_many_session_names"
)

// The limits of what one report may hold.
const (
	maxSeries     = 1000
	maxName       = 200
	maxLabels     = 16
	maxLabelValue = 512
	// maxDynamic bounds the families that agents may bring beyond the table.
	maxDynamic = 512
	// maxDynamicShare bounds those that one workspace brings first, so that it leaves
	// room for others.
	maxDynamicShare = 64
	// maxCount is the largest number that a counter can hold exactly, and that
	// leaves sums of counters exact.
	maxCount = 1 << 53
)

// overlayPrefixes are those of the overlay library's client metrics.
func overlayPrefixes() []string {
	return []string{"magicsock_", "derp_", "netcheck_", "portmap_", "wgengine_", "packet_", "magicdns_", "dnsfallback_", "sockstats_"}
}

// dynamicFamilies remembers the type of families that are not in the table: the
// first agent to send one decides.
type dynamicFamilies struct {
	mu    sync.Mutex
	types map[string]exposition.Type
	// brought counts them by the workspace that did.
	brought map[uuid.UUID]int
}

func newDynamicFamilies() *dynamicFamilies {
	return &dynamicFamilies{types: make(map[string]exposition.Type), brought: make(map[uuid.UUID]int)}
}

func (d *dynamicFamilies) check(workspace uuid.UUID, name string, typ exposition.Type) (reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.types[name]
	switch {
	case ok && known != typ:
		return reasonTypeConflict
	case ok:
		return ""
	case len(d.types) >= maxDynamic:
		return reasonTooManyFamilies
	case d.brought[workspace] >= maxDynamicShare:
		return reasonTooManyOwn
	}
	d.brought[workspace]++
	d.types[strings.Clone(name)] = typ
	return ""
}

// checker validates the series of one report.
type checker struct {
	s         *Service
	workspace uuid.UUID
	seen      map[string]struct{}
	rejected  map[string]uint64
}

func (s *Service) newChecker(workspace uuid.UUID) *checker {
	return &checker{s: s, workspace: workspace, seen: make(map[string]struct{}), rejected: make(map[string]uint64)}
}

// keep returns the series that are taken; the others are counted by reason.
func (c *checker) keep(series []*worktallypb.Series, typ exposition.Type) []*worktallypb.Series {
	return slices.DeleteFunc(series, func(m *worktallypb.Series) bool {
		reason := c.check(m, typ)
		if reason != "" {
			c.rejected[reason]++
		}
		return reason != ""
	})
}

// done writes down what was rejected.
func (c *checker) done() {
	for reason, n := range c.rejected {
		c.s.c.add("worktally_rejected_series_total", "reason", reason, n)
	}
}

// check says why a series is not taken, "" if it is. It leaves labels with an
// empty value out, so that absent and empty are one series.
func (c *checker) check(m *worktallypb.Series, typ exposition.Type) (reason string) {
	if len(c.seen) >= maxSeries {
		return reasonTooMany
	}
	if len(m.GetName()) > maxName || !exposition.ValidMetricName(m.GetName()) {
		return reasonInvalidName
	}
	if !cleanLabels(m) || !c.boundFits(m) {
		return reasonInvalidLabel
	}
	if v := m.GetValue(); math.IsNaN(v) || math.IsInf(v, 0) || typ == exposition.Counter && (v < 0 || v > maxCount) {
		return reasonInvalidValue
	}
	if reason := c.s.allowed(c.workspace, m.GetName(), typ); reason != "" {
		return reason
	}
	key := m.GetName() + "\xff" + strings.Join(m.GetLabels(), "\xff")
	if _, twice := c.seen[key]; twice {
		return reasonDuplicate
	}
	c.seen[key] = struct{}{}
	return ""
}

// allowed says whether an agent may send a family at all. Families that the
// server owns never come from an agent.
func (s *Service) allowed(workspace uuid.UUID, name string, typ exposition.Type) (reason string) {
	if f, suffix, ok := s.o.Table.Lookup(name); ok {
		switch {
		case !f.Forwarded:
			return reasonNotAllowed
		case (f.Type == exposition.Gauge) != (typ == exposition.Gauge), (f.Type == exposition.Histogram) != (suffix != ""):
			return reasonTypeConflict
		}
		return ""
	}
	if strings.HasSuffix(name, "_created") {
		return reasonInvalidName // OpenMetrics takes it for a part of another family
	}
	overlay := slices.ContainsFunc(overlayPrefixes(), func(p string) bool { return strings.HasPrefix(name, p) })
	switch {
	case overlay && !s.o.CollectOverlay:
		return reasonNotCollected
	case overlay || strings.HasPrefix(name, "agent_"):
		return s.dynamic.check(workspace, name, typ)
	}
	return reasonNotAllowed
}
