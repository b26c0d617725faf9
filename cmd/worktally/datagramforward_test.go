package main

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// TestDatagramForward: answers find the local port that asked.
func TestDatagramForward(t *testing.T) {
	listen := func() net.PacketConn {
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	echo, local := listen(), listen()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(append([]byte("re: "), buf[:n]...), from)
		}
	}()
	d := &datagramForward{local: local, dial: func() (net.Conn, error) { return net.Dial("udp", echo.LocalAddr().String()) }, flows: make(map[string]net.Conn)}
	done := make(chan error, 1)
	go func() { done <- d.serve() }()
	for i := range maxDatagramFlows + 1 {
		c, err := net.Dial("udp", local.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprint(c, i); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		if i == maxDatagramFlows {
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if n, err := c.Read(buf); err == nil {
				t.Errorf("beyond the bound: %q", buf[:n])
			}
			break
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(buf); err != nil || string(buf[:n]) != fmt.Sprintf("re: %d", i) {
			t.Fatalf("%d: %q, %v", i, buf[:n], err)
		}
	}
	_ = local.Close()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a closed socket is served")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("serve goes on")
	}
}
