package activity

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/ledger"
)

// The statements take times in microseconds. A person who is gone has no row.
const (
	noteCall = `INSERT INTO activity_users (user_id, api_at, session_at)
		SELECT u.id, $2, 0 FROM catalog_users u WHERE u.id = $1
		ON CONFLICT (user_id) DO UPDATE SET api_at = excluded.api_at
		WHERE activity_users.api_at < excluded.api_at OR activity_users.api_at > $3`
	noteSession = `INSERT INTO activity_users (user_id, api_at, session_at)
		SELECT u.id, 0, $2 FROM catalog_users u WHERE u.id = $1
		ON CONFLICT (user_id) DO UPDATE SET session_at = excluded.session_at
		WHERE activity_users.session_at < excluded.session_at OR activity_users.session_at > $3`
	countActive = `SELECT COUNT(*), COALESCE(SUM(CASE WHEN api_at BETWEEN $2 AND $3 OR session_at BETWEEN $2 AND $3 THEN 1 ELSE 0 END), 0)
		FROM activity_users WHERE api_at >= $1 OR session_at >= $1`
	progressMade = `INSERT INTO activity_progress (id, hour) VALUES (1, $1)
		ON CONFLICT (id) DO UPDATE SET hour = excluded.hour WHERE activity_progress.hour < excluded.hour`
	lastProgress = `SELECT hour FROM activity_progress WHERE id = 1`
)

// flush writes the calls that are due, or all, and forgets who is quiet.
func (a *Activity) flush(ctx context.Context, now time.Time, all bool) error {
	due := make(map[uuid.UUID]time.Time)
	a.mu.Lock()
	for user, c := range a.seen {
		switch fresh, old := !c.at.Equal(c.written), now.Sub(c.written).Abs() >= writeEvery; {
		case fresh && (old || all):
			due[user] = c.at
		case !fresh && old:
			delete(a.seen, user)
		}
	}
	a.mu.Unlock()
	if err := a.note(ctx, noteCall, due, now); err != nil {
		return fmt.Errorf("write calls of people: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for user, at := range due {
		a.seen[user] = call{at: a.seen[user].at, written: at}
	}
	return nil
}

// note writes a time for each person, in one order for all replicas, so that they
// do not wait for each other in a circle.
func (a *Activity) note(ctx context.Context, statement string, at map[uuid.UUID]time.Time, now time.Time) error {
	if len(at) == 0 {
		return nil
	}
	users := make([]uuid.UUID, 0, len(at))
	for user := range at {
		users = append(users, user)
	}
	slices.SortFunc(users, func(x, y uuid.UUID) int { return bytes.Compare(x[:], y[:]) })
	return a.db.Write(ctx, func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, statement)
		if err != nil {
			return err
		}
		defer stmt.Close()
		for _, user := range users {
			if _, err := stmt.ExecContext(ctx, user, sqldb.Micros(at[user]), sqldb.Micros(now.Add(ahead))); err != nil {
				return err
			}
		}
		return nil
	})
}

// catchUp reads the history since it was last read, and counts.
func (a *Activity) catchUp(ctx context.Context, now time.Time) error {
	from := now.Add(-month)
	var last int64
	switch err := a.db.Reader().QueryRowContext(ctx, lastProgress).Scan(&last); {
	case err == nil:
		// What was read then went on for a while.
		if since := time.Unix((last-1)*3600, 0); since.After(from) && since.Before(now) {
			from = since
		}
	case !errors.Is(err, sql.ErrNoRows):
		return err
	}
	if err := a.readHistory(ctx, from, now); err != nil {
		return err
	}
	return a.count(ctx, now)
}

// readHour notes the sessions of the hour that begins at h.
func (a *Activity) readHour(ctx context.Context, h, now time.Time) error {
	last := make(map[uuid.UUID]time.Time)
	err := a.o.History.History(ctx, h, h.Add(time.Hour), func(r ledger.HistoryRow) error {
		at := lastMinute(r)
		if at.After(now) { // by a clock that was set back since
			at = now
		}
		if at.After(last[r.OwnerID]) {
			last[r.OwnerID] = at
		}
		return nil
	})
	maps.DeleteFunc(last, func(user uuid.UUID, at time.Time) bool {
		noted := a.noted[user]
		return !at.After(noted) && !noted.After(now.Add(ahead))
	})
	if err == nil {
		err = a.note(ctx, noteSession, last, now)
	}
	if err != nil {
		return fmt.Errorf("read sessions of %s: %w", h.UTC().Format(time.RFC3339), err)
	}
	if len(a.noted)+len(last) > maxSeen {
		clear(a.noted)
	}
	maps.Copy(a.noted, last)
	return nil
}

// readOld reads one hour in turn of those for which windows may still arrive.
func (a *Activity) readOld(ctx context.Context, now time.Time) error {
	if oldest := now.Add(-late).Truncate(time.Hour); a.old.Before(oldest) || a.old.After(now.Add(-hour)) {
		a.old = oldest
	}
	err := a.readHour(ctx, a.old, now)
	a.old = a.old.Add(time.Hour)
	return err
}

// readHistory notes the sessions between two times.
func (a *Activity) readHistory(ctx context.Context, from, to time.Time) error {
	for h := from.Truncate(time.Hour); !h.After(to); h = h.Add(time.Hour) {
		if err := a.readHour(ctx, h, to); err != nil {
			return err
		}
	}
	err := a.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, progressMade, to.Unix()/3600)
		return err
	})
	if err != nil {
		return fmt.Errorf("note how far history was read: %w", err)
	}
	a.read = to
	return nil
}

// lastMinute returns the first instant of the last minute with a session, the
// zero time if there is none.
func lastMinute(r ledger.HistoryRow) time.Time {
	var all uint64
	for _, mask := range r.Minutes {
		all |= mask
	}
	if all == 0 {
		return time.Time{}
	}
	return r.Hour.Add(time.Duration(bits.Len64(all)-1) * time.Minute)
}

func (a *Activity) count(ctx context.Context, now time.Time) error {
	var c counts
	err := a.db.Reader().QueryRowContext(ctx, countActive, sqldb.Micros(now.Add(-month)), sqldb.Micros(now.Add(-hour)), sqldb.Micros(now.Add(ahead))).Scan(&c.month, &c.hour)
	if err != nil {
		return fmt.Errorf("count who is active: %w", err)
	}
	a.counts.Store(&c)
	return nil
}
