package agentpty

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
)

// hello is what a client says first: two bytes of length N, little endian, then
// N bytes of a JSON object with these keys (contract ssh-and-pty.md section 6.1).
// Container and ContainerUser, which belong to dev containers, are ignored.
type hello struct {
	ID            uuid.UUID
	Height, Width uint16
	// Command is "" for a login shell.
	Command     string
	BackendType string
}

// readHello reads a hello fully, in however many pieces it arrives. It takes
// 64 KiB at most.
func readHello(r io.Reader) (hello, error) {
	var h hello
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return h, fmt.Errorf("read length of init message: %w", err)
	}
	body := make([]byte, binary.LittleEndian.Uint16(length[:]))
	if _, err := io.ReadFull(r, body); err != nil {
		return h, fmt.Errorf("read init message: %w", err)
	}
	if err := json.Unmarshal(body, &h); err != nil {
		return h, fmt.Errorf("parse init message: %w", err)
	}
	if h.ID == uuid.Nil {
		return h, errors.New("parse init message: no ID")
	}
	return h, nil
}
