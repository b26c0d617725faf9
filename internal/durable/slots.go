package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Slots keeps the newest of one value in two files that are written in turns: a
// write that a crash cuts short spoils the older one. A slot is, after the header:
//
//	 0  8  generation: the higher is the newer
//	 8  4  length of the payload
//	12  4  CRC-32C of the header, the 12 bytes before, and the payload
//	16     payload; whatever follows is from longer payloads of old
type Slots struct {
	fs     FS
	dir    string
	names  [2]string
	format uint16
	// files are the slots that this process has made, which it writes in place. What
	// an earlier one left is replaced: nobody knows what of it is on the disk.
	files      [2]File
	next       int
	generation uint64
	buf        []byte
}

const slotHead = 16

// maxPayload bounds what a slot or a frame holds.
const maxPayload = 4 << 20

// OpenSlots reads the slots with the given name, which need not exist, in a
// directory. The newest payload is nil if there is none.
func OpenSlots(fsys FS, dir, name string, format uint16) (s *Slots, newest []byte, aside []Aside, err error) {
	s = &Slots{fs: fsys, dir: dir, names: [2]string{name + "-a", name + "-b"}, format: format}
	for i, n := range s.names {
		f, err := fsys.Open(filepath.Join(dir, n), false)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, nil, err
		}
		generation, payload, err := s.read(f)
		_ = f.Close()
		if err != nil {
			aside = append(aside, setAside(fsys, dir, n, err))
			continue
		}
		if newest == nil || generation > s.generation {
			newest, s.generation, s.next = payload, generation, 1-i
		}
	}
	return s, newest, aside, nil
}

func (s *Slots) read(f File) (generation uint64, payload []byte, err error) {
	b, err := readFile(f)
	if err != nil {
		return 0, nil, err
	}
	return parseSlot(b, s.format)
}

func parseSlot(b []byte, format uint16) (generation uint64, payload []byte, err error) {
	if err := checkHeader(b, kindSlot, format); err != nil {
		return 0, nil, err
	}
	header, rest := b[:headerSize], b[headerSize:]
	if len(rest) < slotHead {
		return 0, nil, fmt.Errorf("%w: cut short", errDamaged)
	}
	length := binary.LittleEndian.Uint32(rest[8:])
	if uint64(length) > uint64(len(rest)-slotHead) {
		return 0, nil, fmt.Errorf("%w: cut short", errDamaged)
	}
	payload = rest[slotHead : slotHead+length]
	if checksum(header, rest[:12], payload) != binary.LittleEndian.Uint32(rest[12:]) {
		return 0, nil, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	return binary.LittleEndian.Uint64(rest), payload, nil
}

// ErrUncertain is wrapped by the errors of writes that may have reached the disk all
// the same.
var ErrUncertain = errors.New("it may be written all the same")

// Write replaces the value. After an error the one before stays, unless the error is
// ErrUncertain; another Write tries again, on a new file. The error is
// fs.ErrNotExist if somebody has deleted or replaced the files, or the directory.
func (s *Slots) Write(payload []byte) error {
	if len(payload) > maxPayload {
		return fmt.Errorf("payload of %d bytes is longer than %d", len(payload), maxPayload)
	}
	s.generation++
	b := appendHeader(s.buf[:0], kindSlot, s.format)
	b = binary.LittleEndian.AppendUint64(b, s.generation)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, checksum(b[:headerSize], b[headerSize:], payload))
	s.buf = append(b, payload...)
	if err := s.write(s.next, s.buf); err != nil {
		if f := s.files[s.next]; f != nil {
			_ = f.Close()
			s.files[s.next] = nil
		}
		return fmt.Errorf("write %s: %w", s.names[s.next], err)
	}
	s.next = 1 - s.next
	return nil
}

func (s *Slots) write(i int, b []byte) error {
	name := filepath.Join(s.dir, s.names[i])
	if f := s.files[i]; f != nil {
		if _, err := f.WriteAt(b, 0); err != nil {
			return uncertain(err) // the rest may be there already
		}
		if err := f.Sync(); err != nil {
			return uncertain(err)
		}
		return s.linked(name, f)
	}
	temp := name + ".new"
	if err := s.fs.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := s.fs.Open(temp, true)
	if err != nil {
		return err
	}
	s.files[i] = f
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := s.fs.Rename(temp, name); err != nil {
		return uncertain(err)
	}
	return uncertain(s.fs.SyncDir(s.dir))
}

// linked returns fs.ErrNotExist if the file was deleted, or another one is there: what
// is written to it is written nowhere.
func (s *Slots) linked(name string, f File) error {
	if there, err := s.fs.Linked(name, f); err == nil && !there {
		return fs.ErrNotExist
	}
	return nil
}

func uncertain(err error) error {
	if err != nil {
		return fmt.Errorf("%w; %w", err, ErrUncertain)
	}
	return nil
}

// SetAside renames the slots, whose payload the caller cannot read. The next Write
// begins anew.
func (s *Slots) SetAside(why error) (aside []Aside) {
	s.Close()
	for _, name := range s.names {
		f, err := s.fs.Open(filepath.Join(s.dir, name), false)
		if err == nil {
			_ = f.Close()
			aside = append(aside, setAside(s.fs, s.dir, name, why))
		}
	}
	return aside
}

// Close closes the files.
func (s *Slots) Close() {
	for i, f := range s.files {
		if f != nil {
			_ = f.Close()
			s.files[i] = nil
		}
	}
}
