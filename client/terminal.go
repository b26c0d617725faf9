package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"sync"

	"github.com/google/uuid"
)

// Terminal is an attachment to a reconnecting terminal. Read returns what it
// shows.
type Terminal struct {
	net.Conn
	mu sync.Mutex
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
	conn, err := c.DialPort(ctx, portTerminal)
	if err != nil {
		return nil, err
	}
	hello, err := json.Marshal(struct {
		ID                                             uuid.UUID
		Height, Width                                  uint16
		Command, Container, ContainerUser, BackendType string
	}{ID: o.ID, Height: o.Height, Width: o.Width, Command: o.Command, BackendType: o.Backend})
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

// Write types.
func (t *Terminal) Write(p []byte) (int, error) {
	if err := t.send(map[string]any{"data": string(p)}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Resize tells the size in characters.
func (t *Terminal) Resize(height, width uint16) error {
	return t.send(map[string]any{"height": height, "width": width})
}

func (t *Terminal) send(message map[string]any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err = t.Conn.Write(text)
	return err
}
