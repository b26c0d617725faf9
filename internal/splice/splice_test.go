package splice

import (
	"io"
	"net"
	"testing"

	"github.com/worktally/worktally/internal/testtool"
)

func TestMain(m *testing.M) { testtool.Main(m) }

// pair returns the two ends of a TCP connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func TestBoth_HalfCloseReachesTheOtherSide(t *testing.T) {
	client, near := pair(t)
	far, server := pair(t)
	done := make(chan struct{})
	go func() { defer close(done); Both(near, far) }()
	if _, err := io.WriteString(client, "question"); err != nil {
		t.Fatal(err)
	}
	_ = client.(*net.TCPConn).CloseWrite()
	question, err := io.ReadAll(server)
	if err != nil || string(question) != "question" {
		t.Fatalf("%q %v", question, err)
	}
	if _, err := io.WriteString(server, "answer"); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	if answer, err := io.ReadAll(client); err != nil || string(answer) != "answer" {
		t.Errorf("%q %v", answer, err)
	}
	<-done
}

func TestBoth_AnErrorEndsBoth(t *testing.T) {
	client, near := pair(t)
	far, server := pair(t)
	done := make(chan struct{})
	go func() { defer close(done); Both(near, far) }()
	_ = client.(*net.TCPConn).SetLinger(0)
	_ = client.Close() // a reset
	if _, err := io.ReadAll(server); err != nil {
		t.Logf("the other side ends with %v", err)
	}
	_ = server.Close()
	<-done
}
