package agentnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/worktally/worktally/internal/splice"
)

// dialTimeout bounds the dial of a local port.
const dialTimeout = 5 * time.Second

// Splice connects a connection of the tailnet to a port of the loopback, IPv4
// first, and returns when both directions have ended. It closes both sides.
func Splice(ctx context.Context, remote net.Conn, port uint16) error {
	defer remote.Close()
	local, err := dialLoopback(ctx, port)
	if err != nil {
		return err
	}
	defer local.Close()
	defer context.AfterFunc(ctx, func() { _ = remote.Close(); _ = local.Close() })()
	splice.Both(local, remote)
	return nil
}

// How long a silent pair of UDP ports is remembered, and for name servers.
const (
	idleDatagrams = 2 * time.Minute
	idleNames     = 30 * time.Second
	portNames     = 53
)

// SpliceDatagrams connects datagrams of a peer's port to a UDP port of the
// loopback, from the same source port if it is free, until both are silent. It
// closes the connection.
func SpliceDatagrams(ctx context.Context, remote net.Conn, port uint16) error {
	defer remote.Close()
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}
	from := &net.UDPAddr{IP: to.IP}
	if peer, ok := remote.RemoteAddr().(*net.UDPAddr); ok {
		from.Port = peer.Port
	}
	local, err := net.DialUDP("udp", from, to)
	if err != nil {
		from.Port = 0
		if local, err = net.DialUDP("udp", from, to); err != nil {
			return fmt.Errorf("reach UDP port %d of the workspace: %w", port, err)
		}
	}
	defer context.AfterFunc(ctx, func() { _ = remote.Close(); _ = local.Close() })()
	idle := idleDatagrams
	if port == portNames {
		idle = idleNames
	}
	splice.Datagrams(local, remote, idle)
	return nil
}

func dialLoopback(ctx context.Context, port uint16) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	p := strconv.Itoa(int(port))
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", p))
	if err == nil {
		return c, nil
	}
	c, err6 := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", p))
	if err6 == nil {
		return c, nil
	}
	return nil, fmt.Errorf("reach port %d of the workspace: %w", port, errors.Join(err, err6))
}
