package tailnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tailscale.com/ipn/ipnstate"
	"tailscale.com/tailcfg"
)

// PingResult is the answer to a ping.
type PingResult struct {
	RoundTrip time.Duration
	Path      Path
	// Endpoint is where the answer came from on a direct path.
	Endpoint string
	// Region is the relay's otherwise.
	Region int
}

// Ping measures the round trip to a peer below WireGuard, on whatever path there
// is.
func (n *Node) Ping(ctx context.Context, to netip.Addr) (PingResult, error) {
	answers := make(chan *ipnstate.PingResult, 1)
	n.engine.Ping(to, tailcfg.PingDisco, 0, func(r *ipnstate.PingResult) {
		select {
		case answers <- r:
		default: // it may be called more than once
		}
	})
	select {
	case r := <-answers:
		if r.Err != "" {
			return PingResult{}, errors.New(r.Err)
		}
		result := PingResult{RoundTrip: time.Duration(r.LatencySeconds * float64(time.Second)), Endpoint: r.Endpoint, Region: r.DERPRegionID}
		if r.Endpoint != "" {
			result.Path = PathP2P
			if at, err := netip.ParseAddrPort(r.Endpoint); err == nil {
				n.width.check(at) // a router may have told meanwhile
			}
		}
		return result, nil
	case <-ctx.Done():
		return PingResult{}, fmt.Errorf("ping %s: %w", to, ctx.Err())
	}
}

// Reach waits until a peer answers inside the tunnel, which proves that both
// sides can talk.
func (n *Node) Reach(ctx context.Context, to netip.Addr) error {
	delay := 50 * time.Millisecond
	for {
		answers := make(chan struct{}, 1)
		n.engine.Ping(to, tailcfg.PingTSMP, 0, func(r *ipnstate.PingResult) {
			if r.Err == "" {
				select {
				case answers <- struct{}{}:
				default:
				}
			}
		})
		select {
		case <-answers:
			return nil
		case <-time.After(delay):
			delay = min(2*delay, 5*time.Second)
		case <-ctx.Done():
			return fmt.Errorf("reach %s: %w", to, ctx.Err())
		}
	}
}

// Active returns the peers that the node has exchanged packets with lately.
func (n *Node) Active() []*Peer {
	var builder ipnstate.StatusBuilder
	builder.WantPeers = true
	n.engine.UpdateStatus(&builder)
	status := builder.Status()
	var active []*Peer
	for _, peer := range n.Peers() {
		if s := status.Peer[peer.view.Key()]; s != nil && s.Active {
			active = append(active, peer)
		}
	}
	return active
}
