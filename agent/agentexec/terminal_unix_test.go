//go:build unix

package agentexec

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTerminal_OutputEndsWithTheProcess(t *testing.T) {
	term, err := OpenTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	if err := term.Resize(33, 77); err != nil {
		t.Fatal(err)
	}
	cmd, err := newBuilder(t, Options{}).Command(context.Background(), Request{Command: "tty; stty size; tty >/dev/tty"})
	if err != nil {
		t.Fatal(err)
	}
	if err := term.Start(cmd); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(term.Master)
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("output ended with %v, want EIO", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	want := term.Name + "\r\n33 77\r\n" + term.Name + "\r\n"
	if string(out) != want {
		t.Errorf("output = %q, want %q", out, want)
	}
}

func TestTerminal_ReadObeysDeadlineAfterResize(t *testing.T) {
	term, err := OpenTerminal()
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	if err := term.Resize(1, 1); err != nil {
		t.Fatal(err)
	}
	if err := term.Master.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := term.Master.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read ended with %v", err)
	}
}

func TestHangUp_ReachesTheWholeGroup(t *testing.T) {
	cmd, err := newBuilder(t, Options{}).Command(context.Background(), Request{Command: "sleep 600 | sleep 600; echo survived"})
	if err != nil {
		t.Fatal(err)
	}
	OwnSession(cmd)
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := HangUp(cmd.Process); err != nil {
		t.Fatal(err)
	}
	// Wait returns when both sleeps have closed the pipe too.
	if err := cmd.Wait(); err == nil || out.Len() > 0 {
		t.Errorf("wait = %v, output = %q", err, out.String())
	}
}
