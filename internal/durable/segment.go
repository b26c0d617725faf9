package durable

import (
	"encoding/binary"
	"fmt"
)

// segment is one file of a Log: after the header come frames,
//
//	 0  4  length of the payload
//	 4  4  CRC-32C of the length, the ordinal and the payload
//	 8  4  ordinal of the frame in its segment
//	12     payload
type segment struct {
	number uint64
	// size is how far the file is known to be good.
	size int64
	// frames counts all, written those on the disk, left those of them that were not
	// removed.
	frames, written, left int
	removed               map[int]struct{}
	// damage is why a part of the file cannot be read.
	damage error
}

const frameHead = 12

func appendFrame(b []byte, ordinal int, payload []byte) []byte {
	var head [frameHead]byte
	binary.LittleEndian.PutUint32(head[0:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[8:], uint32(ordinal))
	binary.LittleEndian.PutUint32(head[4:], checksum(head[:4], head[8:], payload))
	return append(append(b, head[:]...), payload...)
}

// parseFrames calls visit for every good frame until it returns false. A bad frame
// whose length leads to another is skipped. A torn end, which is what a crash
// leaves, is no damage: nobody was told that it was written.
func parseFrames(b []byte, format uint16, visit func(ordinal int, payload []byte) bool) (good int64, err error) {
	if len(b) < headerSize {
		return 0, nil
	}
	if err := checkHeader(b, kindLog, format); err != nil {
		return 0, err
	}
	var damage error
	pos := headerSize
	good = headerSize
	for len(b)-pos >= frameHead {
		head := b[pos : pos+frameHead]
		length := binary.LittleEndian.Uint32(head)
		if uint64(length) > uint64(len(b)-pos-frameHead) {
			break
		}
		payload := b[pos+frameHead : pos+frameHead+int(length)]
		pos += frameHead + int(length)
		if checksum(head[:4], head[8:], payload) != binary.LittleEndian.Uint32(head[4:]) {
			continue
		}
		if good != int64(pos-frameHead-int(length)) {
			damage = fmt.Errorf("%w: a frame has a wrong checksum", errDamaged)
		}
		good = int64(pos)
		if !visit(int(binary.LittleEndian.Uint32(head[8:])), payload) {
			break
		}
	}
	return good, damage
}

// scan reads a segment that an earlier process has written.
func (l *Log) scan(number uint64) (*segment, error) {
	b, err := l.readFile(number)
	if err != nil {
		return nil, err
	}
	s := &segment{number: number}
	s.size, err = parseFrames(b, l.format, func(ordinal int, _ []byte) bool {
		s.frames = max(s.frames, ordinal+1)
		s.left++
		return true
	})
	s.written = s.frames
	return s, err
}

func (l *Log) readFile(number uint64) ([]byte, error) {
	f, err := l.fs.Open(l.path(number), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readFile(f)
}

// readSegment returns up to n payloads that were not removed.
func (l *Log) readSegment(s *segment, n int) (entries []Entry, err error) {
	b, err := l.readFile(s.number)
	if err != nil {
		return nil, err
	}
	b = b[:min(int64(len(b)), s.size)]
	_, err = parseFrames(b, l.format, func(ordinal int, payload []byte) bool {
		if _, gone := s.removed[ordinal]; !gone {
			entries = append(entries, Entry{ID{s.number, ordinal}, payload})
		}
		return len(entries) < n
	})
	if len(entries) == 0 && err == nil {
		err = fmt.Errorf("%w: the payloads are gone", errDamaged)
	}
	if len(entries) > 0 {
		err = nil // the rest of it may still be read
	}
	return entries, err
}

// remove says whether the payload was there.
func (s *segment) remove(ordinal int) bool {
	if _, gone := s.removed[ordinal]; gone || ordinal < 0 || ordinal >= s.frames {
		return false
	}
	if s.removed == nil {
		s.removed = make(map[int]struct{})
	}
	s.removed[ordinal] = struct{}{}
	s.left--
	return true
}
