package splice_test

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/splice"
)

// pair returns two sockets of UDP that are connected with each other.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, err = net.Dial("udp", l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	b, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(a.RemoteAddr().(*net.UDPAddr).AddrPort()), a.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func TestDatagrams(t *testing.T) {
	left, a := pair(t)
	b, right := pair(t)
	done := make(chan struct{})
	go func() { defer close(done); splice.Datagrams(a, b, 3*time.Second) }()
	buf := make([]byte, 1<<16)
	for _, d := range []struct{ from, to net.Conn }{{left, right}, {right, left}} {
		for _, size := range []int{0, 1, 1500, 60_000} {
			want := bytes.Repeat([]byte{'x'}, size)
			if _, err := d.from.Write(want); err != nil {
				t.Fatal(err)
			}
			_ = d.to.SetReadDeadline(time.Now().Add(10 * time.Second))
			if n, err := d.to.Read(buf); err != nil || !bytes.Equal(buf[:n], want) {
				t.Fatalf("%d bytes, %v; want %d", n, err, size)
			}
		}
	}
	select {
	case <-done: // silence ends it
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
	if _, err := a.Read(buf); err == nil {
		t.Error("a connection was left open")
	}
}

// TestDatagrams_NobodyThereYet: a refused datagram is lost, and nothing more.
func TestDatagrams_NobodyThereYet(t *testing.T) {
	left, a := pair(t)
	b, right := pair(t)
	at, from := right.LocalAddr().(*net.UDPAddr), right.RemoteAddr().(*net.UDPAddr)
	_ = right.Close()
	go splice.Datagrams(a, b, 10*time.Second)
	if _, err := left.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	right, err := net.DialUDP("udp", at, from)
	if err != nil {
		t.Fatal(err)
	}
	defer right.Close()
	buf := make([]byte, 10)
	for range 100 { // the first may still meet the refusal of the lost one
		_, _ = left.Write([]byte("heard"))
		_ = right.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := right.Read(buf); err == nil && string(buf[:n]) == "heard" {
			_ = left.Close()
			_ = a.Close()
			return
		}
	}
	t.Error("a refused datagram ended the way")
}
