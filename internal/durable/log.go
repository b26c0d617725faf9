package durable

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Log is a queue of payloads in append-only segment files, bounded in bytes: the
// oldest segment goes first. A segment is deleted when all of its payloads were
// removed, so an empty log has no files. What was removed from a segment that is
// still there comes back after a restart.
type Log struct {
	fs        FS
	dir, name string
	format    uint16
	limit     int64
	roll      int64 // a segment of this size gets no more

	segments []*segment // oldest first
	// active is the newest segment's file while it can be appended to.
	active  File
	number  uint64 // of the next segment
	bytes   int64
	entries int
	buf     []byte
}

// ID names a payload of a Log.
type ID struct {
	segment uint64
	ordinal int
}

// Entry is one payload of a Log.
type Entry struct {
	ID      ID
	Payload []byte
}

// OpenLog reads the log with the given name, which need not exist, in a directory.
// limit bounds its bytes.
func OpenLog(fsys FS, dir, name string, format uint16, limit int64) (*Log, []Aside, error) {
	l := &Log{
		fs: fsys, dir: dir, name: name, format: format, limit: limit,
		roll: min(max(limit/64, 4<<10), 1<<20), number: 1,
	}
	names, err := fsys.List(dir)
	if err != nil {
		return nil, nil, err
	}
	var aside []Aside
	for _, n := range names {
		number, ok := l.parseName(n)
		if !ok {
			continue
		}
		l.number = max(l.number, number+1)
		s, err := l.scan(number)
		switch {
		case outOfFiles(err):
			return nil, aside, err
		case err != nil && (s == nil || s.left == 0):
			aside = append(aside, setAside(fsys, dir, n, err))
			continue
		case err != nil:
			// What can be read of it is delivered first.
			s.damage = err
			aside = append(aside, Aside{Name: n, Err: err})
		case s.left == 0: // the program died before its first payload was whole
			_ = fsys.Remove(filepath.Join(dir, n))
			continue
		}
		l.segments = append(l.segments, s)
		l.bytes += s.size
		l.entries += s.left
	}
	slices.SortFunc(l.segments, func(a, b *segment) int { return int(int64(a.number - b.number)) })
	return l, aside, nil
}

func (l *Log) fileName(number uint64) string {
	return fmt.Sprintf("%s-%016x", l.name, number)
}

func (l *Log) path(number uint64) string { return filepath.Join(l.dir, l.fileName(number)) }

func (l *Log) parseName(file string) (number uint64, ok bool) {
	digits, ok := strings.CutPrefix(file, l.name+"-")
	if !ok || len(digits) != 16 {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	return number, err == nil && number < 1<<62
}

// Len returns how many payloads there are, and Bytes how long the files are.
func (l *Log) Len() int     { return l.entries }
func (l *Log) Bytes() int64 { return l.bytes }

// Append adds payloads, all or none of them, and says how many old ones had to be
// dropped to make room. After an error another Append writes to a new segment.
func (l *Log) Append(payloads ...[]byte) (ids []ID, dropped int, err error) {
	for _, p := range payloads {
		if len(p) > maxPayload {
			return nil, 0, fmt.Errorf("payload of %d bytes is longer than %d", len(p), maxPayload)
		}
	}
	var old *segment
	if l.active == nil {
		var carried [][]byte
		old, carried = l.unfinished()
		if err := l.begin(carried); err != nil {
			return nil, 0, fmt.Errorf("write %s: %w", l.fileName(l.number-1), err)
		}
	} else {
		l.buf = l.buf[:0]
	}
	s := l.segments[len(l.segments)-1]
	for _, p := range payloads {
		ids = append(ids, l.addFrame(s, p))
	}
	if err := l.write(s); err != nil {
		l.giveUp(s)
		return nil, 0, fmt.Errorf("write %s: %w", l.fileName(s.number), err)
	}
	s.size += int64(len(l.buf))
	l.bytes += int64(len(l.buf))
	l.entries += s.frames - s.written
	s.left += s.frames - s.written
	s.written = s.frames
	if old != nil {
		l.delete(len(l.segments) - 2)
	}
	if s.size >= l.roll {
		l.closeActive()
	}
	for l.bytes > l.limit && len(l.segments) > 1 {
		dropped += l.segments[0].left
		l.delete(0)
	}
	return ids, dropped, nil
}

// unfinished returns the newest segment if it has room, and its payloads. It is
// written once more, into a segment of this process, because nobody knows what of it
// is on the disk; and so restarts do not add files.
func (l *Log) unfinished() (*segment, [][]byte) {
	if len(l.segments) == 0 {
		return nil, nil
	}
	s := l.segments[len(l.segments)-1]
	if s.damage != nil || s.size >= l.roll {
		return nil, nil
	}
	entries, err := l.readSegment(s, s.left)
	if err != nil || len(entries) < s.left {
		return nil, nil
	}
	payloads := make([][]byte, len(entries))
	for i, e := range entries {
		payloads[i] = e.Payload
	}
	return s, payloads
}

// begin makes a new segment; what it begins with is in buf.
func (l *Log) begin(payloads [][]byte) error {
	number := l.number
	l.number++
	f, err := l.fs.Open(l.path(number), true)
	if err != nil {
		return err
	}
	s := &segment{number: number}
	l.active, l.segments = f, append(l.segments, s)
	l.buf = appendHeader(l.buf[:0], kindLog, l.format)
	for _, p := range payloads {
		l.addFrame(s, p)
	}
	return nil
}

func (l *Log) addFrame(s *segment, payload []byte) ID {
	id := ID{s.number, s.frames}
	l.buf = appendFrame(l.buf, s.frames, payload)
	s.frames++
	return id
}

func (l *Log) write(s *segment) error {
	if _, err := l.active.WriteAt(l.buf, s.size); err != nil {
		return err
	}
	if err := l.active.Sync(); err != nil {
		return err
	}
	if s.size == 0 {
		return l.fs.SyncDir(l.dir)
	}
	return nil
}

// giveUp closes the active segment after a failed write. What it held before is
// safe; the rest is cut off, so that it does not come back besides its rewrite.
func (l *Log) giveUp(s *segment) {
	_ = l.active.Truncate(s.size)
	l.closeActive()
	s.frames = s.written
	if s.left == 0 {
		l.delete(len(l.segments) - 1)
	}
}

func (l *Log) closeActive() {
	if l.active != nil {
		_ = l.active.Close()
		l.active = nil
	}
}

// delete forgets a segment and deletes its file. One that cannot be deleted comes
// back after a restart. One with damage is kept under another name.
func (l *Log) delete(i int) {
	s := l.segments[i]
	if i == len(l.segments)-1 {
		l.closeActive()
	}
	if s.damage != nil {
		setAside(l.fs, l.dir, l.fileName(s.number), s.damage)
	} else {
		_ = l.fs.Remove(l.path(s.number))
	}
	l.bytes -= s.size
	l.entries -= s.left
	l.segments = slices.Delete(l.segments, i, i+1)
}

// Oldest returns up to n payloads, oldest first. A segment that cannot be read any
// more is given up: lost says how many payloads were in it. Without a descriptor to
// read with, there may be fewer.
func (l *Log) Oldest(n int) (entries []Entry, lost int) {
	for i := 0; i < len(l.segments) && len(entries) < n; i++ {
		s := l.segments[i]
		found, err := l.readSegment(s, n-len(entries))
		if outOfFiles(err) {
			break
		}
		if err != nil {
			s.damage = errors.Join(s.damage, err)
			lost += s.left
			l.delete(i)
			i--
			continue
		}
		entries = append(entries, found...)
	}
	return entries, lost
}

// Remove removes payloads. Those that are not there any more are no error.
func (l *Log) Remove(ids []ID) {
	for _, id := range ids {
		i := slices.IndexFunc(l.segments, func(s *segment) bool { return s.number == id.segment })
		if i < 0 {
			continue
		}
		s := l.segments[i]
		if !s.remove(id.ordinal) {
			continue
		}
		l.entries--
		if s.left == 0 {
			l.delete(i)
		}
	}
}

// Close closes the file.
func (l *Log) Close() { l.closeActive() }
