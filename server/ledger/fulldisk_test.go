package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// room bounds the pages of the database, as a full disk does; 0 is no bound.
func (r *running) room(pages int) {
	r.t.Helper()
	if pages == 0 {
		pages = 1 << 30
	}
	err := r.db.Write(context.Background(), func(tx *sql.Tx) error {
		var n int
		return tx.QueryRow(fmt.Sprintf(`PRAGMA max_page_count(%d)`, pages)).Scan(&n)
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// TestLedger_FullDisk: what does not fit is refused so that it may be sent again,
// at once and with few words; with room again it counts once.
func TestLedger_FullDisk(t *testing.T) {
	var log bytes.Buffer
	r := start(t, filepath.Join(t.TempDir(), "x.db"), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	agents := make([]Submission, 300)
	for i := range agents {
		agents[i] = submission(t0, window(epoch1, 1, float64(i)))
		agents[i].WorkspaceID = uuid.New()
		agents[i].OwnerID = owner
		agents[i].TemplateName = strings.Repeat("x", 500)
	}
	r.room(1) // not below what it has
	stored := make([]bool, len(agents))
	report := func() (refused int) {
		var group sync.WaitGroup
		var mu sync.Mutex
		for i, s := range agents {
			group.Go(func() {
				out, err := r.Commit(t.Context(), s)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					stored[i] = true
					if out.Acknowledged[0].GetRefused() != "" {
						t.Errorf("refused for good: %v", out.Acknowledged)
					}
				case sqldb.FaultOf(err) == sqldb.Full:
					refused++
				default:
					t.Errorf("err = %v, want that the disk is full", err)
				}
			})
		}
		group.Wait()
		return refused
	}
	var refused int
	for range 3 {
		n := report()
		if n == 0 {
			t.Fatal("everything found room")
		}
		refused += n
	}
	if n := value(t, r.metrics.refusedByDisk.WithLabelValues("full")); int(n) != refused {
		t.Errorf("%v refused submissions are counted, want %d", n, refused)
	}
	// Each group is one transaction; its submissions are not tried alone.
	if n := value(t, r.metrics.failures); int(n) > refused/4 {
		t.Errorf("%v transactions failed for %d submissions", n, refused)
	}
	if n := strings.Count(log.String(), "refuses reports"); n != 1 {
		t.Errorf("%d lines of log, want 1:\n%s", n, log.String())
	}
	var want float64
	for i, ok := range stored {
		if ok {
			want += float64(i)
		}
	}
	if want > 0 {
		r.wantDeployment(want)
	}
	// The last one that came may have found room. This one does not.
	large := submission(t0, window(epoch1, 1))
	large.WorkspaceID = uuid.New()
	for i := range 400 {
		s := series(1)[0]
		s.Name = fmt.Sprintf("z%03d_total_%s", i, strings.Repeat("long", 100))
		large.Windows[0].Totals = append(large.Windows[0].Totals, s)
	}
	if _, err := r.Commit(t.Context(), large); sqldb.FaultOf(err) != sqldb.Full {
		t.Errorf("a large report: %v", err)
	}
	if r.db.Fault() != sqldb.Full || r.db.Faults()[sqldb.Full] == 0 {
		t.Errorf("the database's fault is %v, counted %v", r.db.Fault(), r.db.Faults())
	}

	r.room(0)
	for range 2 { // the second time all are resent
		if n := report(); n != 0 {
			t.Fatalf("%d were refused with room", n)
		}
		r.wantDeployment(299 * 300 / 2)
	}
	if r.db.Fault() != sqldb.NoFault {
		t.Errorf("the database's fault is still %v", r.db.Fault())
	}
}

// TestLedger_FullDiskInTheMiddle fills the disk at every page that a report could
// need: whichever write fails, nothing of the report is stored, and all of it
// afterwards.
func TestLedger_FullDiskInTheMiddle(t *testing.T) {
	r := start(t, filepath.Join(t.TempDir(), "x.db"), Options{})
	seq, sum, full := uint64(0), 0.0, 0
	for extra := range 40 {
		var pages int
		if err := r.db.Reader().QueryRow(`PRAGMA page_count`).Scan(&pages); err != nil {
			t.Fatal(err)
		}
		r.room(pages + extra%5)
		// Each report has a new series with long labels, and another hour of history.
		seq++
		w := withApp(window(epoch1, seq, float64(seq)), "app", 0, time.Minute)
		for i := range extra + 1 {
			w.Totals = append(w.Totals, series(1)[0])
			w.Totals[i+1].Name = fmt.Sprintf("z%03d_total_%s", i, strings.Repeat("long", 100))
		}
		s := submission(t0.Add(time.Duration(extra)*time.Hour), w)
		before := r.total("a_total")
		_, err := r.Commit(t.Context(), s)
		if err != nil {
			full++
			t.Logf("with %d pages of room: %v", extra%5, err)
			if sqldb.FaultOf(err) != sqldb.Full {
				t.Fatalf("%d more: %v", extra, err)
			}
			if now := r.total("a_total"); now != before {
				t.Fatalf("%d more: half of a report was stored: %v, before %v", extra, now, before)
			}
			r.room(0)
			r.commit(s)
		}
		sum = float64(seq)
		if got := r.total("a_total"); got != sum {
			t.Fatalf("%d more: total %v, want %v", extra, got, sum)
		}
	}
	if full == 0 {
		t.Error("the disk was never full")
	}
}

// TestDiskLog: a disk that is nearly full refuses and takes by turns.
func TestDiskLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := &diskLog{log: slog.New(slog.NewTextHandler(&log, nil))}
		d.stored()
		for range 150 { // seconds
			d.refused(errors.New("full"), 3)
			d.stored()
			time.Sleep(time.Second)
		}
		if n := strings.Count(log.String(), "\n"); n != 3 {
			t.Errorf("%d lines in 150 s, want 3:\n%s", n, log.String())
		}
		log.Reset()
		time.Sleep(diskQuiet)
		d.stored()
		d.stored()
		if !strings.Contains(log.String(), "again\" failures=150\n") || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("the recovery: %s", log.String())
		}
	})
}

// total returns a total of the deployment.
func (r *running) total(name string) float64 {
	r.t.Helper()
	list, err := r.DeploymentTotals(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == name {
			return s.Value
		}
	}
	return 0
}
