package republish

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// TestPage_WithEverything has every parser read a page with everything on it.
func TestPage_WithEverything(t *testing.T) {
	s := &store{totals: []*worktallypb.Series{
		series("agent_network_receive_bytes_total", 1, "path", "tcp"), series("agent_network_transmit_bytes_total", 2, "path", "tcp"),
		series("agent_sessions_opened_total", 3, "via", "ssh"), series("agent_scripts_executed_total", 4, "success", "true"), series("agent_x_total", 5),
	}}
	var ids []catalog.Identity
	for i := range 3 {
		id := identity(fmt.Sprintf("box%d", i))
		st := status(id)
		st.Apps = []catalog.AppStatus{{Name: "web \"\\\n", Health: agentpb.AppHealth_HEALTHY}, {Name: "", Health: agentpb.AppHealth_DISABLED}}
		ids, s.statuses = append(ids, id), append(s.statuses, st)
	}
	p := newPublisher(t, s, nil)
	for i, id := range ids {
		totals := append(histogram("start", []float64{1, 2, 3}, 3),
			series("agent_scripts_executed_total", 4, "success", "true"), series("agent_foo_total", 1, "a", "\"\\\n\u00e9"), series("agent_odd", 2),
			series("agent_network_receive_bytes_total", 1e17, "path", "tcp"), series("agent_session_duration_seconds_count", 2, "family", "ssh"),
			series("agent_session_duration_seconds_bucket", 2, "family", "ssh", "le", "+Inf"))
		o := outcome(id, uint64(i), int64(i), totals...)
		o.Latest.Gauges.MedianLatencySeconds = proto.Float64(0.0123)
		o.Latest.Gauges.Series = []*worktallypb.Series{
			series("agent_foo", -1.5), series("coderd_agentstats_startup_script_seconds", 3.5, "success", "true"), series("agent_open_sessions", 1, "app_name", "zed", "family", "ssh"),
		}
		p.Reported(id, time.Now(), o)
	}
	plain, open := text(t, p, exposition.Text), text(t, p, exposition.OpenMetrics)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(plain))
	if err != nil || len(families) < 20 {
		t.Errorf("%d families, %v", len(families), err)
	}
	for format, page := range map[string]string{"text": plain, "openmetrics": open} {
		t.Run(format, func(t *testing.T) {
			if complaint := testtool.ParseWithPython(t, []byte(page), format == "openmetrics"); complaint != "" {
				t.Error(complaint)
			}
		})
	}
	t.Run("promtool", func(t *testing.T) {
		promtool := testtool.Find(t, "promtool")
		out, err := testtool.Output(t, []byte(plain), promtool, "check", "metrics")
		// The linter may dislike names of the contract; the parser may not fail.
		if strings.Contains(out, "error while linting") || strings.Contains(out, "parse") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestStorm has reports and scrapes at once. All values of a report are the
// same number, so that half of one would show.
func TestStorm_NeverHalfOfAReport(t *testing.T) {
	p := newPublisher(t, &store{}, nil)
	ids := []catalog.Identity{identity("one"), identity("two"), identity("three")}
	stop := make(chan struct{})
	var writers, scrapers sync.WaitGroup
	for _, id := range ids {
		writers.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				o := outcome(id, uint64(n), int64(n), series("agent_a_total", float64(n)), series("agent_b_total", float64(n)),
					series(fmt.Sprintf("agent_n%d_total", n%50), float64(n)))
				p.Reported(id, time.Now(), o)
			}
		})
	}
	for range 2 {
		scrapers.Go(func() {
			for range 100 {
				values := make(map[string]map[string]string) // by workspace
				for name, v := range samples(t, p) {
					_, rest, ok := strings.Cut(name, `workspace_name="`)
					ws, _, _ := strings.Cut(rest, `"`)
					if ok && (strings.HasPrefix(name, "agent_a_") || strings.HasPrefix(name, "agent_b_") || strings.Contains(name, "count_ssh") || strings.Contains(name, "rx_bytes")) {
						if values[ws] == nil {
							values[ws] = make(map[string]string)
						}
						values[ws][v] = name
					}
				}
				for ws, distinct := range values {
					if len(distinct) != 1 {
						t.Errorf("half of a report of %s: %v", ws, distinct)
					}
				}
			}
		})
	}
	scrapers.Wait()
	close(stop)
	writers.Wait()
}
