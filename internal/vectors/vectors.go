// Package vectors reads the recorded wire data under testdata/vectors for
// tests: the layers of a session taken apart down to single dRPC packets. It
// has a decoder of its own, so that what it says does not depend on the code
// under test.
package vectors

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Dir returns the directory of the vectors.
func Dir(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller information")
	}
	return filepath.Join(filepath.Dir(file), "..", "..", "testdata", "vectors")
}

// Read returns one file of the vectors.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Dir(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Entry is one line of rpc/index.json.
type Entry struct {
	File        string `json:"file"`
	JSON        string `json:"json"`
	RPC         string `json:"rpc"`
	Message     string `json:"message"`
	Kind        string `json:"kind"`
	Role        string `json:"role"`
	Direction   string `json:"direction"`
	YamuxStream uint32 `json:"yamux_stream"`
	Seq         int    `json:"seq"`
}

// Index returns rpc/index.json.
func Index(t testing.TB) []Entry {
	t.Helper()
	var entries []Entry
	if err := json.Unmarshal(Read(t, "rpc/index.json"), &entries); err != nil {
		t.Fatal(err)
	}
	return entries
}

// Frame is one yamux frame.
type Frame struct {
	Type   byte // 0 data, 1 window update, 2 ping, 3 go away
	Flags  uint16
	Stream uint32
	Length uint32 // window delta or ping value for other types than data
	Data   []byte
}

// The yamux frame types and flags that tests look at.
const (
	TypeData    = 0
	TypeWindow  = 1
	TypePing    = 2
	FlagSYN     = 1
	FlagACK     = 2
	FlagFIN     = 4
	frameHeader = 12
)

// Frames takes one direction of a session apart.
func Frames(b []byte) ([]Frame, error) {
	var frames []Frame
	for len(b) > 0 {
		if len(b) < frameHeader {
			return frames, errors.New("incomplete yamux header")
		}
		f := Frame{
			Type:   b[1],
			Flags:  binary.BigEndian.Uint16(b[2:4]),
			Stream: binary.BigEndian.Uint32(b[4:8]),
			Length: binary.BigEndian.Uint32(b[8:12]),
		}
		b = b[frameHeader:]
		if f.Type == TypeData {
			if uint64(len(b)) < uint64(f.Length) {
				return frames, errors.New("incomplete yamux data")
			}
			f.Data, b = b[:f.Length], b[f.Length:]
		}
		frames = append(frames, f)
	}
	return frames, nil
}

// Packet is one dRPC packet, put together from its frames.
type Packet struct {
	Kind    byte // 1 invoke, 2 message, 3 error, 4 cancel, 5 close, 6 close send, 7 metadata
	Stream  uint64
	Message uint64
	Data    []byte
}

// The dRPC packet kinds.
const (
	KindInvoke    = 1
	KindMessage   = 2
	KindError     = 3
	KindClose     = 5
	KindCloseSend = 6
)

// Packets takes the bytes of one yamux stream in one direction apart.
func Packets(b []byte) ([]Packet, error) {
	var packets []Packet
	var open *Packet
	for len(b) > 0 {
		control := b[0]
		b = b[1:]
		var head [3]uint64
		for i := range head {
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return packets, errors.New("incomplete drpc header")
			}
			head[i], b = v, b[n:]
		}
		if uint64(len(b)) < head[2] {
			return packets, fmt.Errorf("drpc frame of %d bytes, %d there", head[2], len(b))
		}
		if open == nil {
			open = &Packet{Kind: control >> 1 & 0x3f, Stream: head[0], Message: head[1]}
		}
		open.Data = append(open.Data, b[:head[2]]...)
		b = b[head[2]:]
		if control&1 != 0 {
			packets, open = append(packets, *open), nil
		}
	}
	if open != nil {
		return packets, errors.New("incomplete drpc packet")
	}
	return packets, nil
}

// Streams sorts one direction of a session by yamux stream.
func Streams(b []byte) (map[uint32][]Packet, error) {
	frames, err := Frames(b)
	if err != nil {
		return nil, err
	}
	data := make(map[uint32][]byte)
	for _, f := range frames {
		if f.Type == TypeData {
			data[f.Stream] = append(data[f.Stream], f.Data...)
		}
	}
	streams := make(map[uint32][]Packet, len(data))
	for id, bytes := range data {
		if streams[id], err = Packets(bytes); err != nil {
			return nil, fmt.Errorf("stream %d: %w", id, err)
		}
	}
	return streams, nil
}
