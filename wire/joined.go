package wire

import (
	"encoding/binary"
	"net"
)

// The layout of yamux's frames: version, type, flags (2 bytes), stream (4), length
// (4), and as many bytes if the type is data.
const (
	frameHeader = 12
	frameType   = 1
	frameLength = 8
	typeData    = 0
)

// keptBuffer is how large a buffer may be that a quiet connection keeps.
const keptBuffer = 512

// joined writes the header of a frame together with its body. yamux writes them one
// after the other, and each write is a message of the websocket, a segment, and a
// call of the kernel on both sides. Write is called by one goroutine at a time.
type joined struct {
	net.Conn
	buf []byte // a header that waits for its body
}

func (j *joined) Write(p []byte) (int, error) {
	if len(j.buf) == 0 && len(p) == frameHeader && p[frameType] == typeData && binary.BigEndian.Uint32(p[frameLength:]) > 0 {
		j.buf = append(j.buf, p...)
		return len(p), nil
	}
	if len(j.buf) == 0 {
		return j.Conn.Write(p)
	}
	j.buf = append(j.buf, p...)
	_, err := j.Conn.Write(j.buf)
	if j.buf = j.buf[:0]; cap(j.buf) > keptBuffer {
		j.buf = nil
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}
