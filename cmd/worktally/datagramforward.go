package main

import (
	"net"
	"sync"
	"time"
)

const (
	// maxDatagramFlows bounds the local ports that are served at a time; datagrams of
	// others are dropped.
	maxDatagramFlows = 256
	// datagramIdle is how long a silent local port is remembered.
	datagramIdle = 2 * time.Minute
	maxDatagram  = 64 << 10
)

// datagramForward passes datagrams of local ports on, each over a connection of its
// own, so that answers find their way back.
type datagramForward struct {
	local net.PacketConn
	dial  func() (net.Conn, error)

	mu    sync.Mutex
	flows map[string]net.Conn
	wg    sync.WaitGroup
}

// serve works until the local socket is closed.
func (d *datagramForward) serve() error {
	defer d.wg.Wait()
	defer d.closeAll()
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := d.local.ReadFrom(buf)
		if err != nil {
			return err
		}
		if c := d.flow(from); c != nil {
			_ = c.SetReadDeadline(time.Now().Add(datagramIdle))
			_, _ = c.Write(buf[:n]) // a datagram may be lost
		}
	}
}

// flow returns the connection of a local port, nil if there can be none.
func (d *datagramForward) flow(from net.Addr) net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := from.String()
	if c := d.flows[key]; c != nil || len(d.flows) >= maxDatagramFlows {
		return c
	}
	c, err := d.dial()
	if err != nil {
		return nil
	}
	d.flows[key] = c
	d.wg.Go(func() {
		d.answer(c, from)
		_ = c.Close()
		d.mu.Lock()
		delete(d.flows, key)
		d.mu.Unlock()
	})
	return c
}

// answer passes on what comes back until nothing came or went for a while.
func (d *datagramForward) answer(c net.Conn, to net.Addr) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(datagramIdle))
		if _, err := d.local.WriteTo(buf[:n], to); err != nil {
			return
		}
	}
}

func (d *datagramForward) closeAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.flows {
		_ = c.Close()
	}
}
