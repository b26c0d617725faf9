package tailnet

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	"tailscale.com/net/stun"
)

// stunResponder answers STUN requests on a loopback port.
type stunResponder struct {
	conn *net.UDPConn
	port int
	wg   sync.WaitGroup
}

func newSTUNResponder() (*stunResponder, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("listen for STUN: %w", err)
	}
	s := &stunResponder{conn: c, port: c.LocalAddr().(*net.UDPAddr).Port}
	s.wg.Go(s.serve)
	return s, nil
}

func (s *stunResponder) serve() {
	var buf [1500]byte
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			return
		}
		id, err := stun.ParseBindingRequest(buf[:n])
		if err != nil {
			continue // not for us
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		_, _ = s.conn.WriteToUDPAddrPort(stun.Response(id, from), from) // it asks again
	}
}

func (s *stunResponder) close() {
	_ = s.conn.Close()
	s.wg.Wait()
}
