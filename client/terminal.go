package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"sync"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Terminal is an attachment to a reconnecting terminal. Read returns what it
// shows.
type Terminal struct {
	net.Conn
	// mu serialises messages and guards rest, the beginning of a character whose end
	// was not written yet.
	mu   sync.Mutex
	rest []byte
}

// TerminalOptions say which terminal.
type TerminalOptions struct {
	// ID names it: the same one is the same terminal.
	ID            uuid.UUID
	Height, Width uint16
	// Command is run; "" means a login shell.
	Command string
	// Backend is "", "buffered" or "screen".
	Backend string
}

// Terminal attaches to a terminal (contract ssh-and-pty.md section 6).
func (c *Conn) Terminal(ctx context.Context, o TerminalOptions) (*Terminal, error) {
	hello, err := json.Marshal(struct {
		ID                                             uuid.UUID
		Height, Width                                  uint16
		Command, Container, ContainerUser, BackendType string
	}{ID: o.ID, Height: o.Height, Width: o.Width, Command: o.Command, BackendType: o.Backend})
	if err != nil {
		return nil, err
	}
	if len(hello) > math.MaxUint16 {
		return nil, fmt.Errorf("open terminal: the command is longer than %d bytes", math.MaxUint16)
	}
	conn, err := c.DialPort(ctx, portTerminal)
	if err != nil {
		return nil, err
	}
	// The length and the text must arrive in one piece.
	if _, err := conn.Write(append(binary.LittleEndian.AppendUint16(nil, uint16(len(hello))), hello...)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	return &Terminal{Conn: conn}, nil
}

// Write types. The protocol carries text: a character that p ends in the middle of
// waits for its end.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := append(t.rest, p...)
	whole := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if b := text[len(text)-i]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(text[len(text)-i:]) {
				whole -= i
			}
			break
		}
	}
	t.rest = bytes.Clone(text[whole:])
	if whole == 0 {
		return len(p), nil
	}
	if err := t.send(map[string]any{"data": string(text[:whole])}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Resize tells the size in characters.
func (t *Terminal) Resize(height, width uint16) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.send(map[string]any{"height": height, "width": width})
}

func (t *Terminal) send(message map[string]any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = t.Conn.Write(text)
	return err
}
