//go:build unix

package agent

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/worktally/worktally/wire/wiretest"
)

// short has no descriptor for the first connections.
type short struct {
	net.Listener
	left atomic.Int64
}

func (l *short) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestAgent_OutOfDescriptors: SSH, the terminals and the page wait a shortage out,
// and count what could not be accepted.
func TestAgent_OutOfDescriptors(t *testing.T) {
	const each = 3
	fails := func(l net.Listener) net.Listener {
		s := &short{Listener: l}
		s.left.Store(each)
		return s
	}
	s := wiretest.Start(t, wiretest.Options{})
	var dial func() error
	a := run(t, s, func(o *Options) {
		client, _ := withSSH(t, o)
		o.SSHListener = fails(o.SSHListener)
		o.PTYListener = fails(listenUnix(t))
		o.MetricsListener = fails(listen(t))
		dial = func() error {
			c, err := client()
			if err == nil {
				_ = c.Close()
			}
			return err
		}
	})
	if err := dial(); err != nil {
		t.Errorf("SSH: %v", err)
	}
	eventually(t, "the terminals' listener", func() bool { return a.o.PTYListener.(*short).left.Load() < 0 })
	resp, err := http.Get("http://" + a.o.MetricsListener.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	for _, line := range sampleLines(string(page), "agent_dropped_total") {
		if strings.Contains(line, `what="not_accepted"`) {
			got = line[strings.LastIndexByte(line, ' ')+1:]
		}
	}
	if got != "9" {
		t.Errorf("%q counted, want %d", got, 3*each)
	}
}
