package freeport

import (
	"net"
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
