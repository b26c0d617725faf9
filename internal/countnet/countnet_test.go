package countnet

import (
	"io"
	"net"
	"strings"
	"testing"
)

type flow struct{ rx, tx, closed int }

func (f *flow) Received(n int) { f.rx += n }
func (f *flow) Sent(n int)     { f.tx += n }
func (f *flow) Close()         { f.closed++ }

func TestListen_CountsPayload(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := new(flow)
	l := Listen(inner, func() Flow { return f })
	defer l.Close()
	answer := strings.Repeat("y", 100_000)
	done := make(chan string, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			done <- err.Error()
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "hello")
		_ = c.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(c)
		done <- string(got)
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(c, strings.NewReader(answer)); err != nil {
		t.Fatal(err)
	}
	if err := c.(*conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != answer {
		t.Errorf("the peer got %d bytes", len(got))
	}
	_ = c.Close()
	_ = c.Close()
	if f.rx != 5 || f.tx != len(answer) || f.closed != 1 {
		t.Errorf("%+v", f)
	}
}
