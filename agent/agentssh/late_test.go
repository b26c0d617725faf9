package agentssh

import (
	"context"
	"net"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// TestSession_ToldLateOfItsLostClient: a process may end for want of input before
// the session has been told that its client is gone. Nobody tells it here.
func TestSession_ToldLateOfItsLostClient(t *testing.T) {
	w := newWorld(t)
	sc, channel, client := w.unserved()
	s := &session{
		c:  &connection{srv: w.server, log: w.server.log, sc: sc, tally: w.tally.OpenConn()},
		ch: channel, signals: make(chan os.Signal), resized: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	client.Close()
	_ = sc.Wait()
	s.run(job{command: "cat"})
	s.c.wg.Wait()
	if n := w.ended(stats.EndDisconnected); n != 1 {
		t.Errorf("%v sessions ended as disconnected, exited: %v", n, w.ended(stats.EndExited))
	}
}

// unserved is a client with one session that nobody but the test serves.
func (w *world) unserved() (*ssh.ServerConn, ssh.Channel, *ssh.Client) {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	var conn *ssh.ServerConn
	var channel ssh.Channel
	served := make(chan error, 1)
	go func() {
		served <- func() error {
			nc, err := l.Accept()
			if err != nil {
				return err
			}
			sc, channels, requests, err := ssh.NewServerConn(nc, w.server.trusting)
			if err != nil {
				return err
			}
			conn = sc
			go ssh.DiscardRequests(requests)
			ch, requests, err := (<-channels).Accept()
			channel = ch
			go ssh.DiscardRequests(requests)
			return err
		}()
	}()
	client, err := ssh.Dial("tcp", l.Addr().String(), w.clientConfig())
	if err != nil {
		w.t.Fatal(err)
	}
	w.session(client)
	if err := <-served; err != nil {
		w.t.Fatal(err)
	}
	return conn, channel, client
}
