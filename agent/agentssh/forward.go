package agentssh

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// dialTimeout bounds how long a forward waits for its target.
const dialTimeout = 30 * time.Second

// forwardTCP serves direct-tcpip: a channel to a port that the workspace reaches.
func (c *connection) forwardTCP(nc ssh.NewChannel) {
	p, ok := parse[directPayload](nc.ExtraData())
	if !ok || p.Port > 65535 {
		c.reject(nc, ssh.ConnectionFailed, "malformed direct-tcpip request")
		return
	}
	if c.srv.o.BlockLocalForwarding {
		c.reject(nc, ssh.Prohibited, "local port forwarding is disabled")
		return
	}
	c.forward(nc, "tcp", net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port))), p.Origin)
}

// forwardUnix serves direct-streamlocal: a channel to a unix socket. A block of
// forwarded ports holds for sockets too, or it would be easy to walk around.
func (c *connection) forwardUnix(nc ssh.NewChannel) {
	p, ok := parse[directUnixPayload](nc.ExtraData())
	if !ok {
		c.reject(nc, ssh.ConnectionFailed, "malformed direct-streamlocal request")
		return
	}
	if c.srv.o.BlockLocalForwarding {
		c.reject(nc, ssh.Prohibited, "local port forwarding is disabled")
		return
	}
	c.forward(nc, "unix", p.Path, "")
}

func (c *connection) forward(nc ssh.NewChannel, network, address, origin string) {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	defer cancel()
	var dialer net.Dialer
	target, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		c.reject(nc, ssh.ConnectionFailed, err.Error())
		return
	}
	defer target.Close()
	f := c.tally.OpenForward(c.behind(target, address))
	id, code, reason := uuid.New(), 0, ""
	if f.Counted() {
		kind, _ := f.Kind()
		c.srv.o.Connections.Connected(ConnEvent{ID: id, Kind: kind, IP: originIP(origin), Time: time.Now()})
		defer func() { c.srv.o.Connections.Disconnected(id, code, reason) }()
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		code, reason = 1, err.Error()
		f.Close(stats.EndFailed)
		return
	}
	f.Close(c.join(ch, requests, target))
}

// behind finds out who serves the target, if that is this machine.
func (c *connection) behind(target net.Conn, address string) stats.ForwardFacts {
	switch remote := target.RemoteAddr().(type) {
	case *net.TCPAddr:
		local, ok := target.LocalAddr().(*net.TCPAddr)
		// Only a connection of a machine to itself has the same address twice.
		if remote.IP.IsLoopback() || ok && remote.IP.Equal(local.IP) {
			return c.srv.o.Processes.ListeningOnTCP(uint16(remote.Port))
		}
	case *net.UnixAddr:
		return c.srv.o.Processes.ListeningOnUnix(address)
	}
	return stats.ForwardFacts{}
}

// originIP is the address that a client gave for itself, as it is reported.
func originIP(origin string) string {
	if origin == "localhost" {
		return "127.0.0.1"
	}
	if net.ParseIP(origin) == nil {
		return ""
	}
	return origin
}
