// Package relay serves what peers need that cannot reach each other directly: a
// DERP relay, on the same port as everything else, and STUN.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stun"
	"tailscale.com/types/key"
)

// Relay is a DERP relay. Anybody who can reach it may use it: what it carries is
// encrypted between the peers.
type Relay struct {
	server *derpserver.Server
}

// New starts a relay with the given key, 32 bytes; nil means a new one. A key
// that is kept lets peers recognise the relay after a restart.
func New(private []byte, log *slog.Logger) (*Relay, error) {
	k := key.NewNode()
	if private != nil {
		if len(private) != 32 {
			return nil, fmt.Errorf("a relay key has 32 bytes, not %d", len(private))
		}
		if err := k.UnmarshalText([]byte(fmt.Sprintf("privkey:%x", private))); err != nil {
			return nil, fmt.Errorf("relay key: %w", err)
		}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	logf := func(format string, args ...any) { log.Debug("relay", "text", fmt.Sprintf(format, args...)) }
	return &Relay{server: derpserver.New(k, logf)}, nil
}

// Register serves the relay below /derp, natively and by websocket.
func (r *Relay) Register(mux *http.ServeMux) {
	mux.Handle("/derp", derpserver.AddWebSocketSupport(r.server, derpserver.Handler(r.server)))
	mux.HandleFunc("/derp/latency-check", derpserver.ProbeHandler)
}

// Close ends the relay and its connections.
func (r *Relay) Close() error { return r.server.Close() }

// ServeSTUN answers STUN requests on conn until the context ends.
func ServeSTUN(ctx context.Context, conn *net.UDPConn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	var buf [1500]byte
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("serve STUN: %w", err)
		}
		id, err := stun.ParseBindingRequest(buf[:n])
		if err != nil {
			continue // whatever it is, it is not for us
		}
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		_, _ = conn.WriteToUDPAddrPort(stun.Response(id, from), from) // it asks again
	}
}
