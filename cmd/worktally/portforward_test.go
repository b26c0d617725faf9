package main

import (
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hungry has no descriptor for the first connection.
type hungry struct {
	net.Listener
	fed bool
}

func (h *hungry) Accept() (net.Conn, error) {
	if !h.fed {
		h.fed = true
		return nil, syscall.EMFILE
	}
	return h.Listener.Accept()
}

// TestServeForward_GoesOnWithoutDescriptors: what could not be accepted once is
// accepted later.
func TestServeForward_GoesOnWithoutDescriptors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var errs strings.Builder
	done := make(chan error, 1)
	go func() {
		done <- serveForward(ctx, &program{stderr: &errs}, &hungry{Listener: l}, func() (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(far, far); _ = far.Close() }()
			return near, nil
		})
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "echo"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "echo" {
		t.Errorf("%q %v", got, err)
	}
	_ = c.Close()
	cancel()
	if err := <-done; err != nil || !strings.Contains(errs.String(), "too many open files") {
		t.Errorf("%v, said %q", err, errs.String())
	}
}
