package agentexec

import (
	"errors"
	"os"
	"os/exec"
)

// Terminal is a pseudo terminal; there is none on Windows.
type Terminal struct {
	// Master is our side.
	Master *os.File
	// Name is the path of the other side.
	Name string
}

// OpenTerminal always fails on Windows.
func OpenTerminal() (*Terminal, error) {
	return nil, errors.New("open a terminal: not supported on Windows")
}

// Configure is never reached.
func (t *Terminal) Configure(func(fd int) error) error { return errors.ErrUnsupported }

// Start is never reached.
func (t *Terminal) Start(*exec.Cmd) error { return errors.ErrUnsupported }

// Resize is never reached.
func (t *Terminal) Resize(rows, cols uint16) error { return errors.ErrUnsupported }

// Close is never reached.
func (t *Terminal) Close() error { return nil }

// OwnSession changes nothing on Windows.
func OwnSession(*exec.Cmd) {}

// HangUp kills the process; Windows has no softer way for a process without a
// console.
func HangUp(p *os.Process) error { return p.Kill() }

// Kill kills the process.
func Kill(p *os.Process) error { return p.Kill() }
