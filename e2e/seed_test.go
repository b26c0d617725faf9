package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/docs"
)

// seedRow is a line of testdata/seed-metrics.tsv: a family, its type, and the labels
// that are published and those that a running reference server shows.
type seedRow struct {
	name, typ  string
	seed, live []string
}

func seedRows(t *testing.T) []seedRow {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(docs.Root(t), "testdata", "seed-metrics.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []seedRow
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 4 {
			t.Fatalf("line %q", line)
		}
		rows = append(rows, seedRow{name: f[0], typ: f[1], seed: strings.Fields(f[2]), live: strings.Fields(f[3])})
	}
	if len(rows) != 77 {
		t.Fatalf("the table has %d rows", len(rows))
	}
	return rows
}

// labels are those of the row in a mode.
func (r seedRow) labels(mode string) []string {
	switch mode {
	case "seed":
		return r.seed
	case "live":
		return r.live
	}
	both := slices.Concat(r.seed, r.live)
	slices.Sort(both)
	return slices.Compact(both)
}

// absent are the rows that a mode leaves out: two names of one histogram (contract
// metrics.md 0.3).
func (r seedRow) absent(mode string) bool {
	return mode == "live" && r.name == "coderd_metrics_collector_agents_execution_seconds"
}

// check compares the row with what a page shows.
func (r seedRow) check(mode string, families map[string]*dto.MetricFamily) error {
	f := families[r.name]
	if r.absent(mode) {
		if f != nil {
			return errors.New("it is there")
		}
		return nil
	}
	if f == nil {
		return errors.New("it is missing")
	}
	if got := strings.ToLower(f.GetType().String()); got != r.typ {
		return fmt.Errorf("it is a %s, not a %s", got, r.typ)
	}
	if len(f.GetMetric()) == 0 {
		return errors.New("it has no sample")
	}
	if f.GetHelp() == "" {
		return errors.New("it has no help")
	}
	want := r.labels(mode)
	for _, m := range f.GetMetric() {
		var got []string
		for _, l := range m.GetLabel() {
			got = append(got, l.GetName())
		}
		slices.Sort(got)
		// What people use besides has a slug; an empty label is none.
		if r.name == "coderd_insights_applications_usage_seconds" && !slices.Contains(got, "slug") {
			got = append(got, "slug")
			slices.Sort(got)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("it has the labels %q, not %q", got, want)
		}
	}
	return nil
}

// TestSeed_EveryRowFromRealEvents: on a server that has seen it all, every family
// of the table is there with its type and its labels, in all three modes.
func TestSeed_EveryRowFromRealEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rows := seedRows(t)
	h := newGitHost(w)
	w.startServer(append(w.licence(), "--external-auth-file", h.config())...)
	w.apply(spec("ws", "    scripts:\n      - {name: start, script: \"true\", on: start}\n    apps:\n      - {slug: web, display_name: Web, url: \"http://127.0.0.1:1\"}\n"))
	w.startAgent()
	w.buildEvents()
	w.logIn("http://" + w.server.Address + "/external-auth/e2e")
	shared := slices.Clone(w.server.Args)
	for _, mode := range []string{"both", "seed", "live"} {
		w.server.Args = append(slices.Clone(shared), "--metrics-labels", mode)
		w.must(w.server.Stop(patience))
		w.must(w.server.Start(t.Context()))
		// A session over the tailnet, which a peer holds and a websocket carries.
		ctx, cancel := context.WithCancel(t.Context())
		held := w.server.Command(ctx, "ssh", "ws", "--", "sleep", "600")
		w.must(held.Start())
		if out, err := w.server.CLI(t.Context(), "ssh", "ws", "--", "git", "ls-remote", h.URL+"/repo.git"); err != nil {
			t.Fatalf("git: %v: %s", err, out)
		}
		var families map[string]*dto.MetricFamily
		// What people did is looked at once a minute.
		err := stack.Await(t.Context(), 3*time.Minute, func() (err error) {
			if families, err = w.families(); err != nil {
				return err
			}
			var errs []error
			for _, r := range rows {
				if err := r.check(mode, families); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
				}
			}
			return errors.Join(errs...)
		})
		cancel()
		_ = held.Wait() // it was cut
		if err != nil {
			t.Fatalf("--metrics-labels=%s: %v", mode, err)
		}
		w.checkExtra(mode, rows, families)
	}
}

// checkExtra: a family under a prefix of the reference's is a row of the table, or
// one that the reference has beyond it, and every family is in the document.
func (w *world) checkExtra(mode string, rows []seedRow, families map[string]*dto.MetricFamily) {
	w.t.Helper()
	known := map[string]bool{
		"coderd_prometheusmetrics_agents_execution_seconds": mode != "seed",
	}
	for _, r := range rows {
		known[r.name] = !r.absent(mode)
	}
	document, err := os.ReadFile(filepath.Join(docs.Root(w.t), "docs", "metrics.md"))
	w.must(err)
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if strings.HasPrefix(name, "coderd_") && !known[name] {
			w.t.Errorf("--metrics-labels=%s: %s is in no table", mode, name)
		}
		if !bytes.Contains(document, []byte("| `"+name+"` |")) {
			w.t.Errorf("docs/metrics.md does not have %s", name)
		}
	}
}

// families reads the server's page with its types.
func (w *world) families() (map[string]*dto.MetricFamily, error) {
	body, err := stack.Get(w.t.Context(), "http://"+w.server.Page+"/metrics")
	if err != nil {
		return nil, err
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	return p.TextToMetricFamilies(bytes.NewReader(body))
}

// licence makes a licence and returns the flags with which a server has it.
func (w *world) licence() []string {
	w.t.Helper()
	key, public, file := w.Path("licence.key"), w.Path("licence.pub"), w.Path("licence")
	s := w.NewServer("")
	for _, args := range [][]string{
		{"licence", "keygen", "--key", key, "--public-key", public},
		{"licence", "create", "--key", key, "--seats", "10", "--enforce", "--expires", "2100-01-01", "--holder", "e2e", "-o", file},
		{"licence", "check", file, "--public-key", public},
	} {
		if out, err := s.CLI(w.t.Context(), args...); err != nil {
			w.t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	return []string{"--licence-file", file, "--licence-public-key-file", public}
}

// buildEvents tells the server what a control plane would: a template with
// parameters, a build that ends and one that goes on.
func (w *world) buildEvents() {
	w.t.Helper()
	items := `{"template":{"id":"11111111-0000-4000-8000-000000000001","name":"tmpl"}}
{"template_version":{"id":"11111111-0000-4000-8000-000000000002","template_id":"11111111-0000-4000-8000-000000000001","name":"1","parameters":[{"name":"region","type":"string","safe":true},{"name":"password","type":"string"}]}}
{"job":{"id":"11111111-0000-4000-8000-000000000003","provisioner":"terraform","status":"running","started_at":"` + time.Now().UTC().Format(time.RFC3339) + `"}}
`
	if out, err := w.server.CLI(w.t.Context(), "import", w.write("import.jsonl", items)); err != nil {
		w.t.Fatalf("import: %v: %s", err, out)
	}
	id, err := w.server.CLI(w.t.Context(), "build", "start", "ws", "--parameter", "region=eu", "--parameter", "password=hunter2")
	w.must(err)
	_, err = w.server.CLI(w.t.Context(), "build", "finish", strings.TrimSpace(id), "--status", "succeeded")
	w.must(err)
}
