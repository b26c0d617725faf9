package activity

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
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

// world is a database with two people, and a ledger whose writer runs.
type world struct {
	t        *testing.T
	dsn      string
	db       *sqldb.DB
	catalog  *catalog.Catalog
	ledger   *ledger.Ledger
	ann, bob catalog.User
}

func onBoth(t *testing.T, test func(w *world)) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) { test(newWorld(t, dsn)) })
}

func newWorld(t *testing.T, dsn string) *world {
	t.Helper()
	w := &world{t: t, dsn: dsn}
	w.db = w.openDB()
	var err error
	w.catalog, err = catalog.Open(t.Context(), w.db, catalog.Options{})
	must(t, err)
	w.ann, _, err = w.catalog.CreateUser(t.Context(), "ann", true)
	must(t, err)
	w.bob, _, err = w.catalog.CreateUser(t.Context(), "bob", false)
	must(t, err)
	w.ledger, err = ledger.Open(t.Context(), w.db, ledger.Options{})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.ledger.Run(ctx) }()
	t.Cleanup(func() { stop(); must(t, <-done) })
	return w
}

func (w *world) openDB() *sqldb.DB {
	w.t.Helper()
	db, err := sqldb.Open(w.t.Context(), w.dsn)
	must(w.t, err)
	w.t.Cleanup(func() { db.Close() })
	return db
}

func (w *world) open() *Activity {
	w.t.Helper()
	a, err := Open(w.t.Context(), w.openDB(), Options{History: w.ledger})
	must(w.t, err)
	return a
}

// session stores a report that says that somebody had a session open for the
// minute before at, which arrived at arrival.
func (w *world) session(owner uuid.UUID, at, arrival time.Time) {
	w.t.Helper()
	epoch, id := uuid.New(), uuid.New()
	_, err := w.ledger.Commit(w.t.Context(), ledger.Submission{
		WorkspaceID: id, AgentName: "main", OwnerID: owner, TemplateName: "go", Arrival: arrival, Interval: 30 * time.Second,
		Windows: []*worktallypb.Window{{
			Sequence: 1, Epoch: epoch[:], WorkspaceId: id[:], AgentName: "main", Length: durationpb.New(time.Minute), Age: durationpb.New(arrival.Sub(at)),
			Totals: []*worktallypb.Series{{Name: "x_total", Value: 1}},
			Gauges: &worktallypb.Gauges{Sessions: []*worktallypb.OpenSessions{{AppName: "ssh", Family: "ssh", Count: 1}}},
		}},
	})
	must(w.t, err)
}

func (w *world) want(a *Activity, now time.Time, hour, month int) {
	w.t.Helper()
	must(w.t, a.refresh(w.t.Context(), now))
	if c := *a.counts.Load(); c != (counts{hour, month}) {
		w.t.Errorf("%d people in the last hour and %d in the last month, want %d and %d", c.hour, c.month, hour, month)
	}
}

func TestActivity_Calls(t *testing.T) {
	onBoth(t, func(w *world) {
		a, now := w.open(), time.Now()
		w.want(a, now, 0, 0)
		a.Seen(w.ann.ID)
		a.Seen(w.ann.ID)
		a.Seen(uuid.New()) // somebody who is gone
		now = time.Now()
		w.want(a, now, 1, 1)
		w.want(w.open(), now, 1, 1)                     // another replica, or a restart
		w.want(a, now.Add(59*time.Minute), 1, 1)        // the reference may lose a user at minute 60 who was there at 59
		w.want(a, now.Add(time.Hour+time.Second), 0, 1) // seen an hour ago
		w.want(a, now.Add(30*24*time.Hour+time.Second), 0, 0)
		must(t, w.catalog.DeleteUser(t.Context(), "bob"))
	})
}

func TestActivity_Sessions(t *testing.T) {
	onBoth(t, func(w *world) {
		now := time.Now()
		w.session(w.bob.ID, now.Add(-20*24*time.Hour), now.Add(-20*24*time.Hour))
		w.session(w.ann.ID, now.Add(-30*time.Minute), now)
		w.session(w.ann.ID, now.Add(-2*time.Hour), now) // older than what is known
		a := w.open()
		if c := *a.counts.Load(); c != (counts{1, 2}) {
			t.Errorf("at the start: %+v", c)
		}
		w.want(a, now, 1, 2)
		w.session(w.bob.ID, now.Add(-5*time.Minute), now)
		w.want(a, now, 1, 2)                    // it was read just now
		w.want(a, now.Add(2*time.Minute), 2, 2) // and is read again in time
		w.want(a, now.Add(40*time.Minute), 1, 2)
		w.want(w.open(), now, 2, 2)
		a.Seen(w.bob.ID) // in both ways, and still one person
		w.want(a, now.Add(3*time.Minute), 2, 2)
	})
}

// TestActivity_LateWindows: what arrives days late is found within some hours.
func TestActivity_LateWindows(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "test.db"))
	a, now := w.open(), time.Now()
	w.session(w.bob.ID, now.Add(-3*24*time.Hour), now)
	w.want(a, now.Add(2*time.Minute), 0, 0)
	for i := range 8 * 24 {
		must(t, a.refresh(t.Context(), now.Add(time.Duration(i+4)*time.Minute)))
	}
	w.want(a, now.Add(4*time.Hour), 0, 1)
	// And the turn begins anew.
	w.session(w.ann.ID, now.Add(-4*24*time.Hour), now)
	for i := range 8 * 24 {
		must(t, a.refresh(t.Context(), now.Add(5*time.Hour+time.Duration(i)*time.Minute)))
	}
	w.want(a, now.Add(9*time.Hour), 0, 2)
}

// TestActivity_WritesSeldom: one row a minute for each person, whatever they do,
// and none is lost at the end.
func TestActivity_WritesSeldom(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "test.db"))
	a, now := w.open(), time.Now()
	stored := func() (us int64) {
		must(t, w.db.Reader().QueryRowContext(t.Context(), `SELECT api_at FROM activity_users WHERE user_id = $1`, w.ann.ID).Scan(&us))
		return us
	}
	a.Seen(w.ann.ID)
	must(t, a.refresh(t.Context(), now))
	first := stored()
	a.Seen(w.ann.ID)
	must(t, a.refresh(t.Context(), now.Add(30*time.Second)))
	if stored() != first {
		t.Error("written again within the minute")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, a.Run(ended))
	if stored() <= first {
		t.Error("the last call is lost at the end")
	}
	must(t, a.flush(t.Context(), now.Add(2*time.Minute), false))
	if len(a.seen) != 0 {
		t.Errorf("%d people are remembered who are quiet", len(a.seen))
	}
}

type brokenHistory struct{}

func (brokenHistory) History(context.Context, time.Time, time.Time, func(ledger.HistoryRow) error) error {
	return errors.New("out of order")
}

// TestActivity_ErrorsKeepTheCounts: and calls are counted although sessions
// cannot be read.
func TestActivity_ErrorsKeepTheCounts(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "test.db"))
	a := w.open()
	a.o.History = brokenHistory{}
	a.Seen(w.ann.ID)
	if err := a.refresh(t.Context(), time.Now().Add(2*time.Minute)); err == nil {
		t.Error("no error")
	}
	b := exposition.NewTable().NewBuilder(exposition.Names{})
	a.Fill(b)
	if a.Month() != 1 || a.counts.Load().hour != 1 {
		t.Errorf("%+v", a.counts.Load())
	}
	if _, err := Open(t.Context(), w.db, Options{History: brokenHistory{}}); err == nil {
		t.Error("opened without history")
	}
}

func TestActivity_MemoryIsBounded(t *testing.T) {
	a := &Activity{o: Options{Now: time.Now}, seen: make(map[uuid.UUID]call), dropped: newDropped(nil)}
	for range maxSeen + 10 {
		a.Seen(uuid.New())
	}
	if len(a.seen) != maxSeen {
		t.Errorf("%d people are remembered", len(a.seen))
	}
}
