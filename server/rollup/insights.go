package rollup

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
)

// maxTemplates bounds the templates that are told apart.
const maxTemplates = 1000

// bounded returns at most so many entries, in the order of their names; the others
// are summed as catalog.OtherProvisioner.
func bounded(m map[string]int64, most int) map[string]int64 {
	if len(m) <= most {
		return m
	}
	out := make(map[string]int64, most)
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i >= most-1 {
			out[catalog.OtherProvisioner] += m[name]
		} else {
			out[name] += m[name]
		}
	}
	return out
}

// insightRow makes the row of how templates are used.
func (r *Rollup) insightRow(ctx context.Context, now time.Time) (*exposition.Row, error) {
	b := r.o.Table.NewBuilder(exposition.Names{})
	if err := r.fillUsage(ctx, b, now); err != nil {
		return nil, err
	}
	if err := r.fillParameters(ctx, b, now); err != nil {
		return nil, err
	}
	return b.Row(), nil
}

// fillUsage adds the use of applications and the active users, with zeros for every
// template that has a workspace.
func (r *Rollup) fillUsage(ctx context.Context, b *exposition.Builder, now time.Time) error {
	u := newUsage(now)
	err := r.o.Ledger.History(ctx, u.first.Truncate(time.Hour), now, func(h ledger.HistoryRow) error {
		u.add(h)
		return nil
	})
	if err != nil {
		return err
	}
	templates, err := r.o.Catalog.TemplatesInUse(ctx, maxTemplates)
	if err != nil {
		return err
	}
	seconds, active := newTally(familyUsage), newTally(familyActive)
	for _, name := range templates {
		active.add(0, true, label("template_name", orUnknown(name)))
		for _, app := range applications() {
			seconds.add(0, true, usageLabels(app, name)...)
		}
	}
	for key, n := range u.minutes() {
		seconds.add(float64(60*n), true, usageLabels(key.app, key.template)...)
	}
	for template, n := range u.users() {
		active.add(float64(n), true, label("template_name", orUnknown(template)))
	}
	if err := r.fill(b, seconds); err != nil {
		return err
	}
	return r.fill(b, active)
}

// usageLabels leaves out the slug, which the built-in applications do not have: an
// empty label is none.
func usageLabels(app, template string) []exposition.Label {
	return []exposition.Label{label("application_name", app), label("template_name", orUnknown(template))}
}

// fillParameters adds the values that latest builds chose.
func (r *Rollup) fillParameters(ctx context.Context, b *exposition.Builder, now time.Time) error {
	t := newTally(familyParameters)
	err := r.o.Catalog.ChosenParameters(ctx, now.Add(-window), func(p catalog.ChosenParameter) error {
		t.add(1, true,
			label("parameter_name", p.Name),
			label("parameter_type", orUnknown(p.Type)),
			label("parameter_value", p.Value),
			label("template_name", orUnknown(p.Template)))
		return nil
	})
	if err != nil {
		return err
	}
	return r.fill(b, t)
}
