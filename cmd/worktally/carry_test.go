package main

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// TestCarry_EndsWhenAsked: who is told to stop does not wait for the other side or
// for the standard input.
func TestCarry_EndsWhenAsked(t *testing.T) {
	remote, far := net.Pipe()
	defer far.Close()
	stdin, typing := io.Pipe()
	defer typing.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- carry(&program{ctx: ctx, stdin: stdin, stdout: io.Discard}, remote) }()
	cancel()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
}
