package rollup

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/worktally/worktally/exposition"
)

// The families with labels of which there may be any number.
const (
	familyBuilds       = "coderd_workspace_builds_total"
	familyLatestStatus = "coderd_workspace_latest_build_status"
	familyUsage        = "coderd_insights_applications_usage_seconds"
	familyActive       = "coderd_insights_templates_active_users"
	familyParameters   = "coderd_insights_parameters"
)

// limits returns how many series of a family are shown at most.
func limits() map[string]int {
	return map[string]int{familyBuilds: 200_000, familyLatestStatus: 50_000, familyUsage: 4 * maxTemplates, familyActive: maxTemplates, familyParameters: 2000}
}

// unknown stands in labels for what is not known, so that every series of a family
// has the same labels.
const unknown = "unknown"

func orUnknown(s string) string { return cmp.Or(s, unknown) }

// tally collects the series of one family. Series whose labels become equal are
// summed.
type tally struct {
	family string
	series map[string]*tallied
}

// tallied is one series.
type tallied struct {
	labels []exposition.Label
	value  float64
	// shown: at least one of what was summed wants to be seen.
	shown bool
}

func newTally(family string) *tally { return &tally{family, make(map[string]*tallied)} }

// add adds to a series. Labels of one family come in one order.
func (t *tally) add(value float64, shown bool, labels ...exposition.Label) {
	var key strings.Builder
	for _, l := range labels {
		key.WriteString(l.Value)
		key.WriteByte(0)
	}
	s := t.series[key.String()]
	if s == nil {
		s = &tallied{labels: labels}
		t.series[key.String()] = s
	}
	s.value += value
	s.shown = s.shown || shown
}

// fill adds the series that are shown to a row, in the order of their labels, as many
// as there is room for.
func (r *Rollup) fill(b *exposition.Builder, t *tally) error {
	room, dropped := limits()[t.family], 0
	for _, key := range slices.Sorted(maps.Keys(t.series)) {
		s := t.series[key]
		if !s.shown {
			continue
		}
		if room == 0 {
			dropped++
			continue
		}
		room--
		if err := b.Add(t.family, s.value, s.labels...); err != nil {
			return err
		}
	}
	r.metrics.dropped.WithLabelValues(t.family).Set(float64(dropped))
	return nil
}

func label(name, value string) exposition.Label { return exposition.Label{Name: name, Value: value} }
