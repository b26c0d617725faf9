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
