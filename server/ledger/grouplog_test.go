package ledger

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// TestLedger_FailingGroupsAreToldOnce: every group fails because of one submission,
// and the log does not grow with them.
func TestLedger_FailingGroupsAreToldOnce(t *testing.T) {
	const groups = 2 // so that all is over in the minute after which there is another line
	db, err := sqldb.Open(t.Context(), filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var log bytes.Buffer
	l, err := Open(t.Context(), db, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var subs []Submission
	for i := range groups * groupSize {
		s := submission(t0, window(epoch1, 1, 1))
		s.WorkspaceID = uuid.New()
		if i%groupSize == 0 {
			s.Windows[0].Totals[0].Labels[1] = "\xff" // cannot be marshalled
		}
		subs = append(subs, s)
	}
	refused := 0
	for _, err := range commitTogether(t, l, subs) {
		if err != nil {
			refused++
		}
	}
	if refused != groups || value(t, l.metrics.failures) != 2*groups {
		t.Errorf("%d submissions refused, %v transactions failed", refused, value(t, l.metrics.failures))
	}
	if n := strings.Count(log.String(), "group commit failed"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, log.String())
	}
}

// TestGroupLog: the next line comes after a minute, and says how many it stands for.
func TestGroupLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := &groupLog{log: slog.New(slog.NewTextHandler(&log, nil))}
		for range 61 { // seconds
			g.failed(errors.New("bad"), 2)
			time.Sleep(time.Second)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.HasSuffix(lines[0], "failures=1") || !strings.HasSuffix(lines[1], "failures=60") {
			t.Errorf("%d lines: %q", len(lines), lines)
		}
	})
}
