package rollup

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
)

// noon is a full hour.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestUsage_FiveMinutesNeverShowSix: wherever the window lies, also over the end of an
// hour, use without a break is five minutes.
func TestUsage_FiveMinutesNeverShowSix(t *testing.T) {
	owner := uuid.New()
	for now := noon.Add(10 * time.Minute); now.Before(noon.Add(130 * time.Minute)); now = now.Add(7 * time.Second) {
		u := newUsage(now)
		for h := range 4 {
			u.add(ledger.HistoryRow{OwnerID: owner, TemplateName: "go", Hour: noon.Add(time.Duration(h) * time.Hour), Minutes: map[string]uint64{"ssh": 1<<60 - 1}})
		}
		if n := u.minutes()[application{"go", "SSH"}]; n != 5 {
			t.Fatalf("at %s: %d minutes", now, n)
		}
	}
}

func TestUsage_OnlyWholeMinutesOfTheWindow(t *testing.T) {
	for _, tc := range []struct {
		name string
		now  time.Time
		mask uint64 // of the hour that begins at noon
		want int
	}{
		{"the minute that is not over", noon.Add(10*time.Minute + 59*time.Second), 1 << 10, 0},
		{"the last one", noon.Add(10 * time.Minute), 1 << 9, 1},
		{"the first one", noon.Add(10 * time.Minute), 1 << 5, 1},
		{"the one before", noon.Add(10 * time.Minute), 1 << 4, 0},
		{"over the hour's end", noon.Add(62 * time.Minute), 1<<59 | 1<<58 | 1<<57 | 1<<56, 3},
		{"hours later", noon.Add(300 * time.Minute), 1<<60 - 1, 0},
		{"before the hour", noon.Add(-time.Minute), 1<<60 - 1, 0},
	} {
		u := newUsage(tc.now)
		u.add(ledger.HistoryRow{Hour: noon, Minutes: map[string]uint64{"vscode": tc.mask}})
		if n := u.minutes()[application{"", "Visual Studio Code"}]; n != tc.want {
			t.Errorf("%s: %d minutes, want %d", tc.name, n, tc.want)
		}
	}
}

func TestApplicationOf(t *testing.T) {
	for app, want := range map[string]string{
		"vscode": "Visual Studio Code", "cursor": "Visual Studio Code", "jetbrains": "JetBrains", "reconnecting_pty": "Web Terminal",
		"ssh": "SSH", "zed": "SSH", "unknown": "SSH", "something": "SSH",
	} {
		if got := applicationOf(app); got != want {
			t.Errorf("%s is %s, want %s", app, got, want)
		}
	}
}

func TestRollup_Insights(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		one, two, three := f.workspace("ann", "one", "go"), f.workspace("ann", "two", "go"), f.workspace("bob", "one", "go")
		f.workspace("bob", "idle", "idle")
		now := noon.Add(2*time.Minute + 30*time.Second) // the window is 11:57 to 12:01
		at := func(m, s int) time.Time { return noon.Add(time.Duration(m)*time.Minute + time.Duration(s)*time.Second) }
		f.used(one, "ann", "go", "vscode", at(-60, 0), at(-1, 30)) // 57, 58
		f.used(two, "ann", "go", "cursor", at(-1, -30), at(0, 10)) // 58 (again), 59, 00... one person, one application
		f.used(three, "bob", "go", "vscode", at(0, 30), at(1, 10)) // 01
		f.used(three, "bob", "go", "ssh", at(1, 30), at(2, 20))    // 02 is not over
		row, err := f.insightRow(t.Context(), now)
		must(t, err)
		page := f.page(row)
		usage := func(app, template string, seconds int) string {
			return fmt.Sprintf("coderd_insights_applications_usage_seconds{application_name=%q,template_name=%q} %d", app, template, seconds)
		}
		want(t, "usage", series(page, familyUsage),
			usage("JetBrains", "go", 0), usage("JetBrains", "idle", 0), usage("SSH", "go", 0), usage("SSH", "idle", 0),
			usage("Visual Studio Code", "go", 5*60), usage("Visual Studio Code", "idle", 0), usage("Web Terminal", "go", 0), usage("Web Terminal", "idle", 0))
		want(t, "active users", series(page, familyActive),
			`coderd_insights_templates_active_users{template_name="go"} 2`, `coderd_insights_templates_active_users{template_name="idle"} 0`)
		row, err = f.insightRow(t.Context(), now.Add(10*time.Minute))
		must(t, err)
		want(t, "active users later", series(f.page(row), familyActive),
			`coderd_insights_templates_active_users{template_name="go"} 0`, `coderd_insights_templates_active_users{template_name="idle"} 0`)
	})
}

func TestRollup_Parameters(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		template := uuid.New()
		f.store(catalog.ImportItem{Template: &catalog.TemplateInfo{ID: template, Name: "go"}},
			catalog.ImportItem{TemplateVersion: &catalog.TemplateVersion{ID: uuid.New(), TemplateID: template, Name: "v1",
				Parameters: []catalog.Parameter{{Name: "region", Type: "string", Safe: true}, {Name: "key", Type: "string"}}}})
		chosen := func(ws uuid.UUID, region string, created time.Time) {
			f.build(ws, catalog.Build{Transition: catalog.TransitionStart, Template: catalog.Template{Name: "go", Version: "v1"}, CreatedAt: created,
				Parameters: map[string]string{"region": region, "key": "hidden-" + region}})
		}
		now := time.Now()
		changedMind := f.workspace("ann", "one", "go")
		chosen(changedMind, "us", now)
		chosen(changedMind, "eu", now)
		chosen(f.workspace("ann", "two", "go"), "eu", now)
		chosen(f.workspace("ann", "old", "go"), "eu", now.Add(-6*time.Minute))
		f.build(f.workspace("bob", "free", ""), catalog.Build{Transition: catalog.TransitionStart, Parameters: map[string]string{"key": "hidden"}})
		row, err := f.insightRow(t.Context(), now)
		must(t, err)
		want(t, "parameters", series(f.page(row), familyParameters),
			`coderd_insights_parameters{parameter_name="key",parameter_type="string",parameter_value="redacted",template_name="go"} 2`,
			`coderd_insights_parameters{parameter_name="key",parameter_type="unknown",parameter_value="redacted",template_name="unknown"} 1`,
			`coderd_insights_parameters{parameter_name="region",parameter_type="string",parameter_value="eu",template_name="go"} 2`)
	})
}
