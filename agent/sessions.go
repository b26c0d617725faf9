package agent

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentssh"
	"github.com/worktally/worktally/agent/reportclient"
	"github.com/worktally/worktally/agent/stats"
)

func (a *Agent) newSSH() (*agentssh.Server, error) {
	key, err := a.hostKey()
	if err != nil {
		return nil, err
	}
	return agentssh.New(agentssh.Options{
		Log: a.log, Commands: a.commands, Tally: a.tally, HostKey: key, AuthorizedKeys: a.o.AuthorizedKeys,
		MaxTimeout: a.o.SSHMaxTimeout, BlockFileTransfer: a.o.BlockFileTransfer,
		BlockLocalForwarding: a.o.BlockLocalPortForwarding, BlockReverseForwarding: a.o.BlockReversePortForwarding,
		Banners: a.banners, Connections: sshReporter{a.newReporter()},
	})
}

// hostKey is kept in the state directory; without one, or if that cannot be
// written, it lives as long as the process: a full disk must not lock people out.
func (a *Agent) hostKey() (ssh.Signer, error) {
	if dir := a.stateDir(); dir != "" {
		key, err := agentssh.LoadOrCreateHostKey(dir)
		if !errors.Is(err, agentssh.ErrHostKeyNotKept) {
			return key, err
		}
		a.log.Warn("the SSH host key lasts only as long as the process", "err", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a host key: %w", err)
	}
	return ssh.NewSignerFromKey(private)
}

func (a *Agent) banners() []agentssh.Banner {
	var banners []agentssh.Banner
	for _, b := range a.client.Banners() {
		banners = append(banners, agentssh.Banner{Enabled: b.GetEnabled(), Message: b.GetMessage()})
	}
	return banners
}

// reporter turns the two ends of a session into connection reports. It remembers
// what a session was when it began, because both reports must agree.
type reporter struct {
	client *reportclient.Client
	open   sync.Map // uuid.UUID -> reportclient.Connection
}

func (a *Agent) newReporter() *reporter { return &reporter{client: a.client} }

// Connected reports that somebody connected.
func (r *reporter) Connected(id uuid.UUID, kind stats.Kind, ip string, at time.Time) {
	c := reportclient.Connection{ID: id, Kind: kind, IP: ip, At: at}
	r.open.Store(id, c)
	r.client.ReportConnection(c)
}

// Disconnected reports how it ended.
func (r *reporter) Disconnected(id uuid.UUID, code int, reason string) {
	v, ok := r.open.LoadAndDelete(id)
	if !ok {
		return
	}
	c := v.(reportclient.Connection)
	c.At, c.Ended, c.Code, c.Reason = time.Now(), true, int32(code), reason
	r.client.ReportConnection(c)
}

type sshReporter struct{ *reporter }

// Connected implements agentssh.Reporter.
func (r sshReporter) Connected(e agentssh.ConnEvent) {
	r.reporter.Connected(e.ID, e.Kind, e.IP, e.Time)
}
