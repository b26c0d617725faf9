package reportclient

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/durable"
	"github.com/worktally/worktally/wire/worktallypb"
)

// disk is the open directory of an outbox:
//
//	lock                  held while the process lives
//	totals-a, totals-b    the newest OutboxState, written in turns
//	history-<number>      OutboxRecords without totals
//	*.aside-*             what could not be read
type disk struct {
	lock    io.Closer
	slots   *durable.Slots
	history *durable.Log
}

// outboxFormat is the number in the header of every file. Programs that know
// another set the file aside.
const outboxFormat = 1

// restored is what an earlier process has left, and where it stood: its joint is that
// to go on with.
type restored struct {
	newest *record
	position
}

// open changes to the directory of id, "" for none. What is in it waits to be sent
// from then on. The state that is returned is nil if there is none. own is the epoch of
// a process that does not go on with what is found, otherwise the nil UUID.
func (o *outbox) open(dir string, id identity, own uuid.UUID) *restored {
	o.io.Lock()
	defer o.io.Unlock()
	o.closeLocked()
	o.dir = dir
	o.mu.Lock()
	o.owner = id
	o.mu.Unlock()
	return o.openLocked(own)
}

func (o *outbox) openLocked(own uuid.UUID) *restored {
	if o.dir == "" {
		return nil
	}
	d, state, err := o.openDisk()
	if err != nil {
		o.noteDisk(err)
		return nil
	}
	o.disk = d
	o.durable.Store(true)
	found, waiting, err := o.decodeState(state, o.owner)
	if err != nil {
		o.log.Error("the totals on disk are damaged; starting over", "dir", o.dir, "err", err)
		o.noteAside(d.slots.SetAside(err))
	}
	held := false
	switch {
	case found == nil || found.newest.Epoch == own: // the process has what is newer
	case own == uuid.Nil || found.joint.sequence == found.newest.Sequence:
		waiting = append(waiting, found.newest)
	default:
		waiting, held = append(waiting, found.apart()...), true
	}
	o.mu.Lock()
	o.records = append(slices.DeleteFunc(waiting, o.waitsLocked), o.records...)
	o.lent, o.held = nil, held
	o.mu.Unlock()
	o.noteOldestLocked()
	return found
}

// apart returns what was counted up to the joint in its epoch, and the rest in one of
// its own: a process that does not go on with the epoch asks no server how far it knows
// it. The next process would, so this one must be on the disk first.
func (f *restored) apart() []*record {
	before, after := *f.newest, *f.newest
	before.Sequence, before.Totals = f.joint.sequence, f.joint.totals
	before.kept, before.RxBytes, before.TxBytes = &worktallypb.Gauges{}, 0, 0
	after.Epoch, after.Sequence = uuid.NewSHA1(f.newest.Epoch, []byte("beyond the joint")), 1
	after.Base = byKey(f.joint.totals)
	before.found, after.found = true, true
	return []*record{&before, &after}
}

func (o *outbox) openDisk() (d *disk, state []byte, err error) {
	if err := o.fs.MkdirAll(o.dir); err != nil {
		return nil, nil, err
	}
	d = &disk{}
	if d.lock, err = o.lock(o.dir); err != nil {
		return nil, nil, err
	}
	var aside, more []durable.Aside
	d.slots, state, aside, err = durable.OpenSlots(o.fs, o.dir, "totals", outboxFormat)
	if err == nil {
		d.history, more, err = durable.OpenLog(o.fs, o.dir, "history", outboxFormat, o.limit)
	}
	if err != nil {
		return nil, nil, errors.Join(err, d.lock.Close())
	}
	o.noteAside(append(aside, more...))
	return d, state, nil
}

func (o *outbox) noteAside(files []durable.Aside) {
	for _, a := range files {
		o.setAside.Add(1)
		o.log.Warn("a file of the outbox cannot be read and is set aside", "dir", o.dir, "file", a.Name, "err", a.Err)
	}
}

// noteLost notes windows of the log that cannot be read any more.
func (o *outbox) noteLost(windows int) {
	if windows > 0 {
		o.setAside.Add(1)
		o.log.Error("report history cannot be read from disk any more", "dir", o.dir, "windows", windows)
	}
}

// close ends the use of the directory.
func (o *outbox) close() {
	o.io.Lock()
	defer o.io.Unlock()
	o.closeLocked()
}

// closeLocked forgets the records that are on the disk, where they wait for the
// next who opens it.
func (o *outbox) closeLocked() {
	if o.disk == nil {
		return
	}
	o.disk.slots.Close()
	o.disk.history.Close()
	if err := o.disk.lock.Close(); err != nil {
		o.log.Error("unlock the outbox", "dir", o.dir, "err", err)
	}
	o.disk = nil
	wasDurable := o.durable.Swap(false)
	o.mu.Lock()
	defer o.mu.Unlock()
	if wasDurable {
		o.records = slices.DeleteFunc(o.records, func(r *record) bool {
			return r.owner() == o.owner && (r.Totals != nil || r.logged != nil)
		})
	}
	for _, r := range o.records {
		r.logged = nil
	}
	o.lent, o.logged, o.loggedBytes, o.oldest = nil, 0, 0, time.Time{}
}

// oldest returns the end of the oldest record of the log.
func (d *disk) oldest(o *outbox) time.Time {
	if d.history.Len() == 0 {
		return time.Time{}
	}
	entries, lost := d.history.Oldest(1)
	o.noteLost(lost)
	if len(entries) == 0 {
		return time.Time{}
	}
	r, err := o.decodeRecord(entries[0].Payload)
	if err != nil {
		return time.Now()
	}
	return r.End
}

// dirLock is how a directory is locked.
type dirLock func(dir string) (io.Closer, error)

func lockDir(dir string) (io.Closer, error) { return durable.Lock(dir) }
