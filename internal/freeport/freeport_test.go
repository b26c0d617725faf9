package freeport

import (
	"net"
	"runtime"
	"strconv"
	"testing"
)

// TestGet: the port can be listened on, and is not the next that the system gives.
func TestGet(t *testing.T) {
	for range 20 {
		port, err := Get()
		if err != nil || port < first || port >= last {
			t.Fatal(port, err)
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}

// TestGet_NoneTwice: a port that was returned is not returned again, although nobody
// listens on it.
func TestGet_NoneTwice(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it is left to chance")
	}
	seen := make(map[int]bool)
	for range 500 { // by chance alone, six would be the same
		port, err := Get()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] {
			t.Fatalf("port %d again", port)
		}
		seen[port] = true
	}
}
