package tailnet

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/google/uuid"
)

// Counter takes what the node exchanges with its peers. Its methods are called
// for every packet, by several goroutines, and must not block or allocate.
type Counter interface {
	// Packets counts inner IP packets and their bytes, headers included. local is
	// the node's side.
	Packets(peer *Peer, proto uint8, local, remote netip.AddrPort, packets, bytes int, received bool)
}

// Options of a Node.
type Options struct {
	// ID is the agent whose addresses the node has; uuid.Nil means a client with
	// one random address.
	ID uuid.UUID
	// AccessURL is how this process reaches the server: relays inside the server
	// are reached the same way. Required.
	AccessURL *url.URL
	// RelayHeader are headers for requests to relays over the shim.
	RelayHeader func() http.Header
	// ListenPort is the UDP port, 0 for any.
	ListenPort uint16
	// TLS says what relays are trusted by, beside the system's authorities, and what
	// the node shows to those that ask for a certificate. Nil means the system's
	// authorities and no certificate. It is not changed.
	TLS *tls.Config
	// ControlPort is where a control plane asks the node about itself; 0 means that
	// there is no such port. Peers that open another one are people's.
	ControlPort uint16
	// Counter counts packets; nil counts none.
	Counter Counter
	Log     *slog.Logger
}

// clientTLS returns a copy of the settings that is the caller's.
func (o Options) clientTLS() *tls.Config {
	c := o.TLS.Clone()
	if c == nil {
		c = new(tls.Config)
	}
	c.NextProtos = []string{"http/1.1"}
	return c
}

func (o Options) withDefaults() (Options, error) {
	if o.AccessURL == nil {
		return o, errors.New("tailnet: no access URL is given")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Counter == nil {
		o.Counter = nobody{}
	}
	return o, nil
}

type nobody struct{}

func (nobody) Packets(*Peer, uint8, netip.AddrPort, netip.AddrPort, int, int, bool) {}

// addresses returns the node's own addresses, the one it is reached by first.
func (o Options) addresses() []netip.Addr {
	if o.ID == uuid.Nil {
		return []netip.Addr{RandomPrimary()}
	}
	return []netip.Addr{Primary(o.ID), Secondary(o.ID)}
}
