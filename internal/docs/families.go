package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/worktally/worktally/internal/testtool"
)

// Query returns an example of a query for a family: what is asked of its kind as a
// rule. Labels are those by which it may be split.
func Query(name, typ string, labels []string) string {
	switch {
	case typ == "counter":
		return by("sum", labels, "rate("+name+"[5m])")
	case typ == "histogram":
		return "histogram_quantile(0.95, " + by("sum", append(slices.Clone(labels), "le"), "rate("+name+"_bucket[5m])") + ")"
	case typ == "summary":
		return name + `{quantile="0.5"}`
	case strings.HasSuffix(name, "_info"):
		return by("count", labels, name)
	case strings.HasSuffix(name, "_timestamp_seconds"), strings.HasSuffix(name, "_time_seconds"), strings.HasSuffix(name, "_unix"):
		return "time() - " + name
	case strings.HasSuffix(name, "_seconds"):
		return by("max", labels, name)
	}
	return by("sum", labels, name)
}

func by(operator string, labels []string, expression string) string {
	if len(labels) == 0 {
		return expression
	}
	return operator + " by (" + strings.Join(labels, ", ") + ") (" + expression + ")"
}

// Families writes a table of families that a registry has gathered, each with a
// sample at least.
func Families(t testing.TB, families []*dto.MetricFamily) string {
	t.Helper()
	var b strings.Builder
	var queries []string
	b.WriteString("| Family | Type | Labels | Meaning | Example |\n|---|---|---|---|---|\n")
	for _, f := range families {
		var labels, quoted []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels, quoted = append(labels, l.GetName()), append(quoted, "`"+l.GetName()+"`")
		}
		typ := strings.ToLower(f.GetType().String())
		query := Query(f.GetName(), typ, labels)
		queries = append(queries, query)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | `%s` |\n", f.GetName(), typ, strings.Join(quoted, ", "), f.GetHelp(), query)
	}
	CheckQueries(t, queries)
	return b.String()
}

// CheckQueries has Prometheus's own tool read queries.
func CheckQueries(t testing.TB, queries []string) {
	t.Helper()
	promtool := testtool.Find(t, "promtool")
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: examples\n    rules:\n")
	for i, q := range queries {
		fmt.Fprintf(&rules, "      - {record: \"example:%d\", expr: %q}\n", i, q)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("examples of queries: %v: %s", err, out)
	}
}
