package agentpty

import (
	"encoding/json"
	"errors"
	"io"
)

// maxMessage bounds what the reader holds of one message.
const maxMessage = 1 << 20

var errMessageTooLong = errors.New("message is longer than 1 MiB")

// message is what a client sends after the hello, all of it optional (contract
// section 6.2). Data is written before the resize, which needs both numbers.
type message struct {
	Data   string `json:"data"`
	Height uint16 `json:"height"`
	Width  uint16 `json:"width"`
}

// messages reads a stream of messages.
type messages struct {
	dec *json.Decoder
	src *quota
}

func newMessages(r io.Reader) *messages {
	q := &quota{r: r}
	return &messages{dec: json.NewDecoder(q), src: q}
}

// next returns the next message, io.EOF at the end between two.
func (m *messages) next() (message, error) {
	m.src.left = maxMessage
	var msg message
	err := m.dec.Decode(&msg)
	return msg, err
}

// quota lets a limited number of bytes pass until it is filled up again.
type quota struct {
	r    io.Reader
	left int
}

func (q *quota) Read(p []byte) (int, error) {
	if q.left == 0 {
		return 0, errMessageTooLong
	}
	n, err := q.r.Read(p[:min(len(p), q.left)])
	q.left -= n
	return n, err
}
