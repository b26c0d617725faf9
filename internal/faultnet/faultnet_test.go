package faultnet

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// server is a target that hands its connections to the test.
type server struct {
	net.Listener
	conns chan net.Conn
}

func newServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{l, make(chan net.Conn, 16)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns <- c
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return s
}

func newProxy(t *testing.T, s *server, f Faults) *Proxy {
	t.Helper()
	p, err := ListenLoopback("tcp", s.Addr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	p.Set(f)
	t.Cleanup(p.Close)
	return p
}

// connect returns both ends of a connection through the proxy.
func connect(t *testing.T, p *Proxy, s *server) (client, target *net.TCPConn) {
	t.Helper()
	a, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b := <-s.conns
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// exchange sends in both directions at once, ends each, and compares.
func exchange(t *testing.T, p *Proxy, s *server, n int) {
	t.Helper()
	client, target := connect(t, p, s)
	up, down := random(n), random(n/2)
	var wg sync.WaitGroup
	for _, side := range []struct {
		c          *net.TCPConn
		send, want []byte
	}{{client, up, down}, {target, down, up}} {
		wg.Go(func() {
			if _, err := side.c.Write(side.send); err != nil {
				t.Error(err)
			}
			if err := side.c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if got, err := io.ReadAll(side.c); err != nil || !bytes.Equal(got, side.want) {
				t.Errorf("%d bytes arrived, not the %d that were sent: %v", len(got), len(side.want), err)
			}
		})
	}
	wg.Wait()
	to, from := p.Counts()
	if to != uint64(n) || from != uint64(n/2) {
		t.Errorf("counted %d and %d bytes, not %d and %d", to, from, n, n/2)
	}
}

func TestProxy_NothingIsLostWhileNothingBreaks(t *testing.T) {
	for name, tc := range map[string]struct {
		faults Faults
		n      int
		least  time.Duration
	}{
		"no faults": {Faults{}, 5 << 20, 0},
		"latency":   {Faults{Latency: 200 * time.Millisecond}, 1 << 20, 200 * time.Millisecond},
		"rate":      {Faults{Rate: 16 << 10}, 8 << 10, 400 * time.Millisecond},
		"slices":    {Faults{Slice: 5}, 2000, 0},
		"all":       {Faults{Latency: 50 * time.Millisecond, Rate: 64 << 10, Slice: 100}, 10000, 150 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			began := time.Now()
			exchange(t, newProxy(t, s, tc.faults), s, tc.n)
			if took := time.Since(began); took < tc.least {
				t.Errorf("it took %s, less than %s", took, tc.least)
			}
		})
	}
}

func TestProxy_SlicesAreSmallAndFollowFromTheSeed(t *testing.T) {
	lengths := func() (list []int) {
		f, rng := &Faults{Slice: 5}, (&Proxy{seed: 3}).random(1, true)
		for range 1000 {
			list = append(list, f.piece(rng, 1000))
		}
		return list
	}
	seen := make(map[int]int)
	again := lengths()
	for i, n := range lengths() {
		if n != again[i] {
			t.Fatalf("piece %d is %d and %d long", i, n, again[i])
		}
		seen[n]++
	}
	for n := 1; n <= 5; n++ {
		if seen[n] == 0 {
			t.Errorf("no slice of %d bytes", n)
		}
	}
	if len(seen) != 5 {
		t.Errorf("lengths of slices: %v", seen)
	}
}

// broken says whether a read says that the connection was reset.
func broken(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	if !errors.Is(err, syscall.ECONNRESET) {
		return errors.Join(errors.New("the connection was not reset"), err)
	}
	return nil
}

func TestProxy_CutResetsBothSidesAndHeals(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s, Faults{})
	client, target := connect(t, p, s)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(target, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.Set(Faults{Stall: true})
	p.Cut()
	if err := errors.Join(broken(client), broken(target)); err != nil {
		t.Error(err)
	}
	if made, cut := p.Connections(); made != 1 || cut != 1 {
		t.Errorf("%d connections, %d broken", made, cut)
	}
	client, target = connect(t, p, s)
	if _, err := client.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(target, make([]byte, 1)); err != nil {
		t.Errorf("the network has not healed: %v", err)
	}
}

func TestProxy_BreaksInMidMessageWhereTheSeedSays(t *testing.T) {
	arrived := func() int {
		s := newServer(t)
		p := newProxy(t, s, Faults{Break: 1000})
		client, target := connect(t, p, s)
		_, _ = client.Write(make([]byte, 2000))
		n, err := io.Copy(io.Discard, target)
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the target saw %v", err)
		}
		to, _ := p.Counts()
		if n < 0 || n > int64(to) || to == 0 || to > 1000 {
			t.Errorf("%d bytes were read, %d delivered", n, to)
		}
		return int(to)
	}
	if first, second := arrived(), arrived(); first != second {
		t.Errorf("broken after %d and after %d bytes", first, second)
	}
}

func TestProxy_HalfClose(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s, Faults{})
	client, target := connect(t, p, s)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(target, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.HalfClose(true)
	if n, err := target.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the target read %d bytes, %v", n, err)
	}
	if _, err := client.Write([]byte("lost")); err != nil {
		t.Error(err)
	}
	if _, err := target.Write([]byte("y")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Errorf("the other direction: %v", err)
	}
}

func TestProxy_RepliesAreLost(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s, Faults{LoseReplies: true})
	client, target := connect(t, p, s)
	if _, err := client.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(target, make([]byte, 7)); err != nil {
		t.Fatalf("the request did not arrive: %v", err)
	}
	if _, err := target.Write([]byte("reply")); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 5)); n != 0 || err == nil {
		t.Errorf("%d bytes of the reply arrived, %v", n, err)
	}
}

func TestProxy_StallForgetsNothing(t *testing.T) {
	s := newServer(t)
	p := newProxy(t, s, Faults{Stall: true})
	client, target := connect(t, p, s)
	if _, err := client.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	if err := target.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := target.Read(make([]byte, 7)); n != 0 || err == nil {
		t.Errorf("%d bytes came through, %v", n, err)
	}
	p.Set(Faults{})
	if err := target.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(target, make([]byte, 7)); err != nil {
		t.Error(err)
	}
}

func TestProxy_LeadsElsewhereAndOutlivesDeadTargets(t *testing.T) {
	first, second := newServer(t), newServer(t)
	p := newProxy(t, first, Faults{})
	connect(t, p, first)
	p.Lead("127.0.0.1:1")
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a dead target answered %d bytes, %v", n, err)
	}
	p.Lead(second.Addr().String())
	connect(t, p, second)
}
