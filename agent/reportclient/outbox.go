package reportclient

import (
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/internal/retry"
)

const (
	// maxRecords bounds the records in memory: 7 days of windows of 30 s.
	maxRecords = 7 * 24 * 120
	// defaultOutboxBytes bounds the history on the disk.
	defaultOutboxBytes = 64 << 20
)

// outbox keeps records until a server has taken them in. Without a directory it
// lives as long as the process. With one, the newest totals are in two slots that
// are written in turns, before anybody is sent them, and the history that they
// superseded is in a log. A disk that fails is tried again with every record;
// meanwhile everything goes on in memory. Methods are safe for concurrent use, and
// state never waits for the disk.
type outbox struct {
	fs    durable.FS
	lock  dirLock
	log   *slog.Logger
	quiet *retry.Log
	limit int64            // bytes of the log
	keep  int              // records in memory
	now   func() time.Time // the wall clock

	durable               atomic.Bool
	writeErrors, setAside atomic.Uint64

	// io serialises what touches the disk; it is taken before mu and guards dir and
	// disk.
	io   sync.Mutex
	dir  string // "": memory only
	disk *disk  // nil if it cannot be opened, or is not wanted

	// mu guards everything below.
	mu      sync.Mutex
	owner   identity  // whose the directory is
	records []*record // oldest first; history among them is not in the log
	// held: what was found is not on the disk yet as it is to be sent.
	held bool
	// lent are the oldest records of the log, as they were read last, oldest first: those
	// that pending returned, and one more, which is the oldest after their end.
	lent []loan
	// logged, loggedBytes and oldest are what is in the log.
	logged      int
	loggedBytes int64
	oldest      time.Time
}

func newOutbox(fs durable.FS, log *slog.Logger, limit int64, now func() time.Time) *outbox {
	if limit <= 0 {
		limit = defaultOutboxBytes
	}
	return &outbox{fs: fs, lock: lockDir, log: log, quiet: retry.NewLog(log, "keeping reports on disk"), limit: limit, keep: maxRecords, now: now}
}

// opened says whether there is a directory, and it could be opened.
func (o *outbox) opened() bool {
	o.io.Lock()
	defer o.io.Unlock()
	return o.disk != nil
}

// wanted says whether there is a directory.
func (o *outbox) wanted() bool {
	o.io.Lock()
	defer o.io.Unlock()
	return o.dir != ""
}

// append adds the newest record, whose totals make those of older records of its
// epoch useless. It returns how many records of history had to be dropped to make
// room; totals are never dropped. It is on the disk before pending returns it,
// unless the disk fails; f says which.
func (o *outbox) append(r *record, at position) (dropped int, f fate) {
	o.io.Lock()
	defer o.io.Unlock()
	dropped, f = o.saveLocked(r, at, true)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.records = slices.DeleteFunc(o.records, func(old *record) bool {
		return old.logged != nil && old.Epoch == r.Epoch // the log has it
	})
	for i, old := range o.records {
		if old.Epoch == r.Epoch && old.Totals != nil {
			// A sender may hold the old one: replace, never change.
			o.records[i] = old.history()
		}
	}
	o.records = append(o.records, r)
	for len(o.records) > o.keep {
		oldest := slices.IndexFunc(o.records, func(r *record) bool { return r.Totals == nil })
		if oldest < 0 {
			break // nothing but totals is left
		}
		o.records = slices.Delete(o.records, oldest, oldest+1)
		dropped++
	}
	return dropped, f
}

// checkpoint keeps what a record cut now would hold, without adding one.
func (o *outbox) checkpoint(r *record, at position) (dropped int, f fate) {
	o.io.Lock()
	defer o.io.Unlock()
	return o.saveLocked(r, at, false)
}

// saveLocked writes the newest totals, and before them the history that they
// supersede.
func (o *outbox) saveLocked(r *record, at position, cut bool) (dropped int, f fate) {
	if o.disk == nil {
		// The process has begun an epoch of its own meanwhile: what an earlier one has
		// left is only sent.
		o.openLocked(r.Epoch)
	}
	if o.disk == nil {
		return 0, notKept
	}
	dropped, unlogged := o.logHistoryLocked(r)
	// What there is no room for in the log waits in memory: a crash may cost history,
	// but not the totals, which are written in place.
	err := o.writeStateLocked(r, at, cut)
	o.noteDisk(errors.Join(unlogged, err))
	o.durable.Store(err == nil)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(unlogged, fs.ErrNotExist) {
		o.closeLocked() // somebody has deleted the directory: the next makes another
	}
	switch {
	case err == nil:
		o.release()
		return dropped, isKept
	case errors.Is(err, durable.ErrUncertain):
		return dropped, maybeKept
	}
	return dropped, notKept
}

// release lets what was found be sent: the next process would find it as it is sent.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = false
}

func (o *outbox) writeStateLocked(r *record, at position, cut bool) error {
	state, err := o.encodeState(r, at, cut)
	if err != nil {
		return err
	}
	return o.disk.slots.Write(state)
}

// fate is what became of a state that was to be kept.
type fate int

const (
	notKept fate = iota
	maybeKept
	isKept
)

func (o *outbox) noteDisk(err error) {
	o.durable.Store(err == nil)
	if err != nil {
		o.writeErrors.Add(1)
		o.quiet.Failed(err)
		return
	}
	o.quiet.Succeeded()
}

// logBatch bounds the records of one write to the log.
const logBatch = 256

// logHistoryLocked writes to the log what is history once newest is saved.
func (o *outbox) logHistoryLocked(newest *record) (dropped int, err error) {
	o.mu.Lock()
	var history []*record
	for _, r := range o.records {
		if r.owner() != newest.owner() {
			continue // its directory failed, and this one is another's
		}
		if r.logged == nil && (r.Totals == nil || r.Epoch == newest.Epoch && r.Sequence < newest.Sequence) {
			history = append(history, r)
		}
	}
	o.mu.Unlock()
	for batch := range slices.Chunk(history, logBatch) {
		payloads := make([][]byte, len(batch))
		for i, r := range batch {
			payloads[i] = o.encodeRecord(r.history())
		}
		ids, n, err := o.disk.history.Append(payloads...)
		if err != nil {
			return dropped, err
		}
		dropped += n
		o.noteLogged(batch, ids)
		if n > 0 {
			o.noteDroppedLocked()
		}
	}
	return dropped, nil
}

// noteDroppedLocked forgets what was lent: the oldest of it is gone.
func (o *outbox) noteDroppedLocked() {
	o.mu.Lock()
	o.lent = nil
	o.mu.Unlock()
	o.noteOldestLocked()
}

// noteLogged leaves history to the log, and marks the record whose totals still wait.
func (o *outbox) noteLogged(batch []*record, ids []durable.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, r := range batch {
		r.logged = &ids[i]
	}
	o.records = slices.DeleteFunc(o.records, func(r *record) bool { return r.Totals == nil && r.logged != nil })
	o.countLoggedLocked(batch[0].End)
}

// loan is where a record of the log is, and when it ended.
type loan struct {
	record recordID
	entry  durable.ID
	end    time.Time
}

// countLoggedLocked takes in how much is in the log; oldest is its oldest record's
// end if that is not known.
func (o *outbox) countLoggedLocked(oldest time.Time) {
	o.logged, o.loggedBytes = o.disk.history.Len(), o.disk.history.Bytes()
	switch {
	case o.logged == 0:
		o.oldest = time.Time{}
	case o.oldest.IsZero():
		o.oldest = oldest
	}
}

// pending returns the records that hold totals, newest first, and then at most
// history others, oldest first. The caller must not change them. While the disk is
// being written, or cannot be opened, what is on it waits: then whole is false.
func (o *outbox) pending(history int) (pending []*record, whole bool) {
	var logged []*record
	if o.io.TryLock() {
		logged, whole = o.readLogLocked(history), o.disk != nil || o.dir == ""
		o.io.Unlock()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range slices.Backward(o.records) {
		switch {
		case r.found && o.held:
			whole = false
		case r.Totals != nil && r.owner() == o.owner: // another's are refused, and lost
			pending = append(pending, r)
		}
	}
	pending = append(pending, logged...)
	history -= len(logged)
	for _, r := range o.records {
		if history <= 0 {
			break
		}
		if r.Totals == nil && r.owner() == o.owner {
			pending = append(pending, r)
			history--
		}
	}
	return pending, whole
}

func (o *outbox) readLogLocked(history int) (records []*record) {
	if o.disk == nil || history <= 0 || o.disk.history.Len() == 0 {
		return nil
	}
	entries, lost := o.disk.history.Oldest(history + 1)
	lent := make([]loan, 0, len(entries))
	for _, e := range entries {
		r, err := o.decodeRecord(e.Payload)
		if err != nil {
			o.disk.history.Remove([]durable.ID{e.ID})
			o.log.Error("a report window on disk is damaged", "err", err)
			o.setAside.Add(1)
			continue
		}
		records, lent = append(records, r), append(lent, loan{r.id(), e.ID, r.End})
	}
	o.noteLost(lost)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lent = lent
	oldest := time.Now()
	if len(lent) > 0 {
		oldest = lent[0].end
	}
	o.oldest = time.Time{}
	o.countLoggedLocked(oldest)
	return slices.DeleteFunc(records[:min(history, len(records))], o.waitsLocked)
}

// waitsLocked says whether a record of the log is in memory too, where it may have its
// totals: the log took it, and the state that supersedes them was not written.
func (o *outbox) waitsLocked(r *record) bool {
	return slices.ContainsFunc(o.records, func(m *record) bool { return m.id() == r.id() })
}

// acknowledge removes the records.
func (o *outbox) acknowledge(ids []recordID) {
	o.io.Lock()
	defer o.io.Unlock()
	logged := o.forgetLocked(ids)
	if o.disk != nil && len(logged) > 0 {
		o.disk.history.Remove(logged)
		o.noteOldestLocked()
	}
}

// forgetLocked removes the records from memory, and says which of the log go too.
func (o *outbox) forgetLocked(ids []recordID) (logged []durable.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := make(map[recordID]struct{}, len(ids))
	for _, id := range ids {
		known[id] = struct{}{}
	}
	o.lent = slices.DeleteFunc(o.lent, func(l loan) bool {
		_, ok := known[l.record]
		if ok {
			logged = append(logged, l.entry)
		}
		return ok
	})
	o.records = slices.DeleteFunc(o.records, func(r *record) bool {
		_, ok := known[r.id()]
		if ok && r.logged != nil {
			logged = append(logged, *r.logged)
		}
		return ok
	})
	return logged
}

// noteOldestLocked takes in how much is in the log, and how old it is. It reads the log
// only if the oldest record is not known already: its segments are long.
func (o *outbox) noteOldestLocked() {
	o.mu.Lock()
	known := len(o.lent) > 0 // which nobody changes who has not locked io
	o.mu.Unlock()
	var oldest time.Time
	if !known {
		oldest = o.disk.oldest(o)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if known {
		oldest = o.lent[0].end
	}
	o.oldest = time.Time{}
	o.countLoggedLocked(oldest)
}

// state says how many records there are, how long their history on the disk is, and
// when the oldest ended.
func (o *outbox) state() (records int, bytes int64, oldest time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	records, bytes, oldest = o.logged, o.loggedBytes, o.oldest
	for _, r := range o.records {
		if r.logged != nil {
			continue // counted
		}
		records++
		if oldest.IsZero() || r.End.Before(oldest) {
			oldest = r.End
		}
	}
	return records, bytes, oldest
}
