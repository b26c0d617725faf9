package main

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

// written does something when it is written to.
type written func(text []byte)

func (w written) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// TestListenPatiently: an address that becomes free in time is taken, and the log
// says once that it was not free.
func TestListenPatiently(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := other.Addr().String()
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(written(func(p []byte) {
		text.Write(p)
		other.Close() // that it was taken was seen
	}), nil))
	l, err := listenPatiently(t.Context(), address, time.Minute, log)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if n := strings.Count(text.String(), "trying again"); n != 1 {
		t.Errorf("%d lines, want 1: %s", n, text.String())
	}
	began := time.Now()
	if _, err := listenPatiently(t.Context(), address, 100*time.Millisecond, log); err == nil {
		t.Error("an address was taken twice")
	}
	if took := time.Since(began); took < 100*time.Millisecond || took > 30*time.Second {
		t.Errorf("gave up after %s", took)
	}
}
