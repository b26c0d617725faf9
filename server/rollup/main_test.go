package rollup

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/pgtest"
	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/wire/worktallypb"
)

// cluster is the PostgreSQL server of this test binary.
var cluster pgtest.Cluster

func TestMain(m *testing.M) { cluster.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fixture is a rollup on a catalog and a ledger, with the users ann and bob.
type fixture struct {
	*Rollup
	t       *testing.T
	db      *sqldb.DB
	catalog *catalog.Catalog
	ledger  *ledger.Ledger
	users   map[string]catalog.User
	stop    func()
}

// onBoth runs a test on both databases.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) { test(t, newFixture(t, dsn, exposition.NewTable())) })
}

func newFixture(t *testing.T, dsn string, table *exposition.Table) *fixture {
	t.Helper()
	db, err := sqldb.Open(t.Context(), dsn)
	must(t, err)
	c, err := catalog.Open(t.Context(), db, catalog.Options{})
	must(t, err)
	l, err := ledger.Open(t.Context(), db, ledger.Options{})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	f := &fixture{t: t, db: db, catalog: c, ledger: l, users: map[string]catalog.User{}}
	f.stop = func() {
		cancel()
		must(t, <-ended)
		must(t, db.Close())
	}
	t.Cleanup(func() {
		if f.stop != nil {
			f.stop()
		}
	})
	for _, name := range []string{"ann", "bob"} {
		if f.users[name], err = c.UserByName(t.Context(), name); err != nil {
			f.users[name], _, err = c.CreateUser(t.Context(), name, false)
			must(t, err)
		}
	}
	f.Rollup, err = New(Options{Catalog: c, Ledger: l, Table: table, Registerer: prometheus.NewRegistry()})
	must(t, err)
	return f
}

// workspace makes one and returns its id.
func (f *fixture) workspace(owner, name, template string) uuid.UUID {
	f.t.Helper()
	id := uuid.New()
	f.store(catalog.ImportItem{Workspace: &catalog.ImportWorkspace{ID: id, Owner: owner, Name: name, Template: catalog.Template{Name: template}}})
	return id
}

func (f *fixture) store(items ...catalog.ImportItem) {
	f.t.Helper()
	done, err := f.catalog.Import(f.t.Context(), items)
	must(f.t, err)
	for _, err := range done.Errors {
		must(f.t, err)
	}
}

func (f *fixture) build(workspace uuid.UUID, b catalog.Build) {
	f.t.Helper()
	b.ID, b.WorkspaceID = uuid.New(), workspace
	f.store(catalog.ImportItem{Build: &b})
}

// used reports that somebody had sessions of an app open from one time to another.
func (f *fixture) used(workspace uuid.UUID, owner, template, app string, from, to time.Time) {
	f.t.Helper()
	epoch := uuid.New()
	out, err := f.ledger.Commit(f.t.Context(), ledger.Submission{
		WorkspaceID: workspace, AgentName: "main", OwnerID: f.users[owner].ID, TemplateName: template, Arrival: to, Interval: 30 * time.Second,
		Windows: []*worktallypb.Window{{
			Sequence: 1, Epoch: epoch[:], WorkspaceId: workspace[:], AgentName: "main", Length: durationpb.New(to.Sub(from)), Age: durationpb.New(0),
			Totals: []*worktallypb.Series{{Name: "a_total", Value: 1}},
			Gauges: &worktallypb.Gauges{Sessions: []*worktallypb.OpenSessions{{AppName: app, Family: "ssh", Count: 1}}},
		}},
	})
	must(f.t, err)
	if len(out.Acknowledged) != 1 || out.Acknowledged[0].GetRefused() != "" {
		f.t.Fatalf("acknowledged %v", out.Acknowledged)
	}
}

// page is what rows show, without comments.
func (f *fixture) page(rows ...*exposition.Row) []string {
	f.t.Helper()
	var b bytes.Buffer
	page := exposition.Page{Table: f.o.Table, Sides: exposition.ServerPage, Rows: rows}
	must(f.t, page.Write(&b, exposition.Text))
	return slices.DeleteFunc(strings.Split(strings.TrimSpace(b.String()), "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
}

// series are the lines of a page whose family matches.
func series(page []string, family string) []string {
	r := regexp.MustCompile("^" + family + "[{ ]")
	return slices.Sorted(slices.Values(slices.DeleteFunc(slices.Clone(page), func(l string) bool { return !r.MatchString(l) })))
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// value reads a counter or a gauge.
func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	must(t, m.Write(&out))
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}
