package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/worktally/worktally/internal/freeport"
)

// patience is how long a program may take to start, and to stop.
const patience = time.Minute

// Stack is a directory with programs that run in it.
type Stack struct {
	// Dir holds logs, states and keys; Bin the two programs. Both are absolute.
	Dir, Bin string
	// Env is added to the environment of every program.
	Env      []string
	programs []*Program
	close    []func()
}

// New makes an empty stack in dir, which must be empty or not exist, with a key
// for SSH. The path should be short: there will be a unix socket in it.
func New(ctx context.Context, dir, bin string) (*Stack, error) {
	dir, errDir := filepath.Abs(dir)
	bin, errBin := filepath.Abs(bin)
	if err := errors.Join(errDir, errBin); err != nil {
		return nil, err
	}
	s := &Stack{Dir: dir, Bin: bin}
	if err := os.MkdirAll(s.Path("home"), 0o700); err != nil {
		return nil, err
	}
	return s, s.makeKey(ctx)
}

// Path returns a path in the stack's directory.
func (s *Stack) Path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// Environ is the environment of every program: nothing of the caller's settings
// leaks in.
func (s *Stack) Environ() []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Path("home"), "TMPDIR=" + os.TempDir(), "SHELL=/bin/sh",
	}, s.Env...)
}

// Programs returns those that were started and have not ended.
func (s *Stack) Programs() []*Program {
	s.programs = slices.DeleteFunc(s.programs, (*Program).Exited)
	return slices.Clone(s.programs)
}

// Close stops the programs, servers last because the others have last words for
// them, and says which did not stop well.
func (s *Stack) Close() error {
	var errs []error
	for _, servers := range []bool{false, true} {
		for _, p := range slices.Backward(s.Programs()) {
			if (p.Name == serverName) == servers {
				errs = append(errs, p.Stop(patience))
			}
		}
	}
	for _, f := range s.close {
		f()
	}
	return errors.Join(errs...)
}

// FreeAddress returns a loopback address that was free a moment ago.
func FreeAddress() (string, error) {
	port, err := freeport.Get()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// Await tries until it works. It gives up when the limit is over, when the
// context ends or when one of the programs does, and then says what was missing.
func Await(ctx context.Context, limit time.Duration, try func() error, programs ...*Program) error {
	deadline, tick := time.NewTimer(limit), time.NewTicker(50*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		for _, p := range programs {
			if p.Exited() {
				return fmt.Errorf("%s has ended (see %s): %w", p.Name, p.Log, err)
			}
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("after %s: %w", limit, err)
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}
