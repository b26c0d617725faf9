package agentssh

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// TestHostile_Channels: a client that is in opens 4,096 sessions.
func TestHostile_Channels(t *testing.T) {
	w := newWorld(t)
	v := newWitness(w)
	c := w.dial()
	const asked, limit = 4096, 1000
	granted := 0
	for range asked {
		ch, requests, err := c.OpenChannel("session", nil)
		var open *ssh.OpenChannelError
		if err == nil {
			granted++
			go ssh.DiscardRequests(requests)
			_ = ch
		} else if !errors.As(err, &open) || open.Reason != ssh.ResourceShortage {
			t.Fatal(err)
		}
	}
	if got := w.total("agent_dropped_total", "what", "ssh_connections"); granted != limit || got != asked-limit {
		t.Errorf("%d were granted, %v counted as dropped", granted, got)
	}
	v.check("with the channels open")
	v.grown(64)
	c.Close()
	v.settled(t)
}

// TestHostile_GlobalRequests: a client asks thousands of times for what there is
// not, and for listeners.
func TestHostile_GlobalRequests(t *testing.T) {
	w := newWorld(t)
	v := newWitness(w)
	c := w.dial()
	for range 5000 {
		if ok, _, err := c.SendRequest("unheard-of@example.com", true, make([]byte, 1000)); ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
	}
	granted := 0
	const asked, limit = 300, 100
	for range asked {
		ok, _, err := c.SendRequest("tcpip-forward", true, ssh.Marshal(listenPayload{"127.0.0.1", 0}))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			granted++
		}
	}
	if got := w.total("agent_dropped_total", "what", "forwards"); granted != limit || got != asked-limit {
		t.Errorf("%d were granted, %v counted as dropped", granted, got)
	}
	v.check("with the listeners")
	v.grown(16)
	c.Close()
	v.settled(t)
}

// TestHostile_Environment: a client sets more variables than a session takes.
func TestHostile_Environment(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	refused := 0
	for range maxEnv + 7 {
		if s.Setenv("A", "b") != nil {
			refused++
		}
	}
	if s.Setenv("ZEROS", "a\x00b") == nil {
		t.Error("a variable with zeros was taken")
	}
	if got := w.total("agent_dropped_total", "what", "ssh_environment"); refused != 7 || got != 7 {
		t.Errorf("%d were refused, %v counted, want 7", refused, got)
	}
	// Few, but long ones.
	s, long := w.session(w.dial()), strings.Repeat("x", maxEnvBytes/4-100)
	for i := range 5 {
		if err := s.Setenv("A", long); (err == nil) != (i < 4) {
			t.Errorf("variable %d of %d bytes: %v", i, len(long), err)
		}
	}
	if got := w.total("agent_dropped_total", "what", "ssh_environment"); got != 8 {
		t.Errorf("%v are counted, want 8", got)
	}
}

// deaf is a connection whose client stops reading.
type deaf struct {
	net.Conn
	closed chan struct{}
	once   sync.Once
	stop   atomic.Bool
}

func (d *deaf) Read(p []byte) (int, error) {
	if d.stop.Load() {
		<-d.closed
		return 0, net.ErrClosed
	}
	return d.Conn.Read(p)
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

// TestHostile_NeverReads: clients start sessions that write without end, ask for
// more all the time and read nothing of it.
func TestHostile_NeverReads(t *testing.T) {
	w := newWorld(t)
	v := newWitness(w)
	var conns []*deaf
	var asking sync.WaitGroup
	for range 8 {
		nc, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		d := &deaf{Conn: nc, closed: make(chan struct{})}
		conns = append(conns, d)
		conn, channels, requests, err := ssh.NewClientConn(d, w.addr, w.clientConfig())
		if err != nil {
			t.Fatal(err)
		}
		c := ssh.NewClient(conn, channels, requests)
		if err := w.session(c).Start("exec yes"); err != nil {
			t.Fatal(err)
		}
		d.stop.Store(true)
		_ = nc.SetWriteDeadline(time.Now().Add(2 * time.Second)) // the server stops reading, too
		asking.Go(func() {
			for {
				if _, _, err := c.SendRequest("unheard-of@example.com", false, make([]byte, 30_000)); err != nil {
					return
				}
			}
		})
		asking.Go(func() {
			_, _, _ = c.SendRequest("unheard-of@example.com", true, nil) // never answered
		})
	}
	v.check("with the deaf")
	v.grown(64)
	for _, d := range conns {
		d.Close()
	}
	asking.Wait()
	eventually(t, "the sessions' end", func() bool { return w.open() == 1 })
	v.settled(t)
}
