package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/buildinfo"
	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/internal/webserve"
	"github.com/worktally/worktally/server/activity"
	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/coding"
	"github.com/worktally/worktally/server/controlapi"
	"github.com/worktally/worktally/server/coordinator"
	"github.com/worktally/worktally/server/gitauth"
	"github.com/worktally/worktally/server/ledger"
	"github.com/worktally/worktally/server/licence"
	"github.com/worktally/worktally/server/republish"
	"github.com/worktally/worktally/server/rollup"
	"github.com/worktally/worktally/tailnet/relay"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// Server is the hub.
type Server struct {
	o           Options
	log         *slog.Logger
	db          *sqldb.DB
	replica     string // its name among those that share the database
	audit       *audit.Log
	catalog     *catalog.Catalog
	ledger      *ledger.Ledger
	activity    *activity.Activity
	licence     *licence.Watched
	git         *gitauth.Service // nil if there is no key to seal secrets with
	agents      *agentapi.Service
	coordinator *coordinator.Coordinator
	people      *controlapi.API
	publisher   *republish.Publisher
	rollup      *rollup.Rollup
	registry    *prometheus.Registry
	limits      *limits
	metrics     http.Handler
	api         http.Handler
	http, prom  net.Listener // prom is nil if the page is off
	relays      func() *tailnetpb.DERPMap
	relay       *relay.Relay // nil if it is off
	stun        *net.UDPConn // nil if it is off
	ready       atomic.Bool
}

// New opens the stores and the listeners. A server that is not run must be
// closed with Close.
func New(ctx context.Context, o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := webserve.Validate(o.Prometheus.WebConfigFile); err != nil {
		return nil, err
	}
	if o.HTTPWebConfigFile != "" {
		asks, err := webserve.Inspect(o.HTTPWebConfigFile)
		if err == nil && asks.Users {
			err = errors.New("basic_auth_users in the web config file for agents and people (--http-web-config-file): they have tokens, and agents cannot send a password; ask for client certificates instead (client_auth_type)")
		}
		if err != nil {
			return nil, err
		}
		o.tls = asks.TLS
	}
	s := &Server{o: o, log: o.Log, registry: exposition.NewRuntimeRegistry()}
	s.limits = newLimits(s.registry)
	if err = s.listen(); err == nil {
		err = s.openStores(ctx)
	}
	if err == nil {
		err = s.assemble()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) listen() (err error) {
	if s.http = s.o.HTTPListener; s.http == nil {
		if s.http, err = net.Listen("tcp", s.o.HTTPAddress); err != nil {
			return fmt.Errorf("listen for agents and people (--http-address): %w", err)
		}
	}
	if s.o.AccessURL == nil {
		s.o.AccessURL = &url.URL{Scheme: "http", Host: s.http.Addr().String()}
		if s.o.tls {
			s.o.AccessURL.Scheme = "https"
		}
		if a, ok := s.http.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
			s.log.Warn("agents elsewhere cannot reach the access URL; give one (--access-url)", "access_url", s.o.AccessURL.String())
		}
	}
	if s.o.STUNAddress != "" {
		address, err := net.ResolveUDPAddr("udp", s.o.STUNAddress)
		if err == nil {
			s.stun, err = net.ListenUDP("udp", address)
		}
		if err != nil {
			return fmt.Errorf("listen for STUN (--stun-address): %w", err)
		}
	}
	if !s.o.Prometheus.Enable {
		return nil
	}
	if s.prom = s.o.PrometheusListener; s.prom == nil {
		if s.prom, err = net.Listen("tcp", s.o.Prometheus.Address); err != nil {
			return fmt.Errorf("listen for Prometheus (--prometheus-address): %w", err)
		}
	}
	return nil
}

func (s *Server) openStores(ctx context.Context) (err error) {
	if s.o.StateDir != "" {
		if err := os.MkdirAll(s.o.StateDir, 0o700); err != nil {
			return fmt.Errorf("create state directory: %w", err)
		}
	}
	if s.audit, err = audit.Open(audit.Options{Path: s.o.AuditLog, Registerer: s.registry, Log: s.log}); err != nil {
		return fmt.Errorf("--audit-log: %w", err)
	}
	if err = s.openDatabase(ctx); err != nil {
		return err
	}
	if err = s.nameReplica(); err != nil {
		return err
	}
	if s.catalog, err = catalog.Open(ctx, s.db, catalog.Options{Log: s.log, Replica: s.replica, Now: s.o.Now}); err != nil {
		return err
	}
	if s.ledger, err = ledger.Open(ctx, s.db, ledger.Options{Log: s.log, Now: s.o.Now, Registerer: s.registry}); err != nil {
		return err
	}
	if err = s.openPeople(ctx); err != nil {
		return err
	}
	user, token, created, err := s.catalog.EnsureFirstUser(ctx, s.o.FirstUsername)
	if err != nil {
		return err
	}
	if created {
		s.audit.Record(audit.Event{Name: audit.UserCreated, Target: user.Username})
		_, err = fmt.Fprintf(s.o.FirstToken, "first user %s was created; the token is shown only now:\n%s\n", user.Username, token)
	}
	return err
}

// assemble is one straight line of wiring.
func (s *Server) assemble() (err error) {
	if s.relays, err = relayMap(s.o.AccessURL, s.o.Relays); err != nil {
		return err
	}
	s.coordinator = coordinator.New(coordinator.Options{
		Log: s.log, DERPMap: s.relays,
		OnAgentNode: func() { s.publisher.AgentChanged() },
	})
	table := exposition.NewTableFor(s.o.Prometheus.Labels)
	if s.o.Prometheus.HideDeprecated {
		table = exposition.NewTableWithoutDeprecated(s.o.Prometheus.Labels)
	}
	s.rollup, err = rollup.New(rollup.Options{Catalog: s.catalog, Ledger: s.ledger, Table: table, Log: s.log, Now: s.o.Now, Tell: s.tellOfEvents, Registerer: s.registry})
	if err != nil {
		return err
	}
	s.publisher, err = republish.New(republish.Options{
		Catalog: s.catalog, Ledger: s.ledger, Table: table, Log: s.log, Now: s.o.Now,
		CollectAgentStats: s.o.Prometheus.CollectAgentStats, ByteWindow: s.o.Prometheus.ByteWindow,
		Own: s.fill, Deployment: func() []*exposition.Row { return append(s.rollup.Rows(), s.peopleRow(table)) },
		Node: s.coordinator.Node, RelayMap: s.relays, HeartbeatTimeout: 2 * s.o.AgentPingInterval,
		Registerer: s.registry, Labels: s.o.Prometheus.Labels, Replica: s.replica, Announce: s.announceNodes(),
	})
	if err != nil {
		return err
	}
	s.agents, err = agentapi.New(agentapi.Options{
		Catalog: s.catalog, Ledger: s.ledger, Publisher: s.publisher, Table: table, Log: s.log, Now: s.o.Now, Audit: s.audit,
		Tailnet: s.coordinator.Agent, DERPMap: s.relays, BlockDirect: s.o.Relays.BlockDirect, ForceWebsockets: s.o.Relays.ForceWebsockets,
		ReportInterval: s.o.StatsInterval, PingInterval: s.o.AgentPingInterval, CollectOverlay: s.o.Prometheus.CollectOverlay,
		Git: s.git,
	})
	if err != nil {
		return err
	}
	resumeKey, err := s.key(resumeKeyFile)
	if err != nil {
		return err
	}
	s.people = controlapi.New(controlapi.Options{
		Catalog: s.catalog, Log: s.log, Registerer: s.registry, OnChange: s.workspaceChanged, OnToken: s.tokenChanged, Audit: s.audit, Seen: s.activity.Seen, Now: s.o.Now,
		MayAddUser: func() error { return s.licence.MayAdd(s.activity.Month()) }, Git: s.git, OnEvent: s.rollup.Changed,
		Build: controlapi.Build{
			ExternalURL: s.o.AccessURL.String(), Version: buildinfo.Get().Version,
			AgentAPIVersion: wire.Version{Major: wire.Major, Minor: wire.ServerMinor}.String(),
		},
		Tailnet: controlapi.Tailnet{
			Service: s.clientService, EndPeers: s.coordinator.End, DERPMap: s.relays, ResumeKey: resumeKey,
			BlockDirect: s.o.Relays.BlockDirect, ForceWebsockets: s.o.Relays.ForceWebsockets, HostnameSuffix: s.o.HostnameSuffix,
		},
	})
	mux := http.NewServeMux()
	s.agents.Register(mux)
	if !s.o.Relays.Disable {
		key, err := s.key(relayKeyFile)
		if err != nil {
			return err
		}
		if s.relay, err = relay.New(key, s.log); err != nil {
			return err
		}
		s.relay.Register(mux)
	}
	mux.Handle("/", s.people)
	s.api = s.instrumented(mux)
	s.metrics = exposition.NewHandler(exposition.HandlerOptions{
		Page: s.publisher.Page, Registry: s.registry, Ready: s.ready.Load, Log: s.log, Parts: true, Codings: coding.All(),
		OnCut: s.limits.scrapesCut.Inc,
	})
	return nil
}

// clientService is the Tailnet service for a session of a person's client.
func (s *Server) clientService(p controlapi.Peer, end context.CancelCauseFunc) tailnetpb.DRPCTailnetServer {
	return s.coordinator.Peer(p.ID, coordinator.ClientAuth{AgentID: p.AgentID, UserID: p.UserID}, end)
}

// fill adds what the server counts about itself to its page.
func (s *Server) fill(b *exposition.Builder) {
	s.agents.Fill(b)
	s.coordinator.Fill(b)
	build := buildinfo.Get()
	_ = b.Add("worktally_build_info", 1, exposition.Label{Name: "version", Value: build.Version},
		exposition.Label{Name: "revision", Value: build.Revision}, exposition.Label{Name: "goversion", Value: build.GoVersion})
}

// Run serves until the context ends or something breaks.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	if err := s.catalog.EndSessions(ctx); err != nil { // a full disk, say; then their heartbeats end
		s.log.Warn("some agents may seem to be connected until they are", "err", err)
	}
	if err := s.publisher.Rebuild(ctx); err != nil {
		return fmt.Errorf("rebuild the metrics page: %w", err)
	}
	if err := s.rollup.Refresh(ctx); err != nil {
		return fmt.Errorf("rebuild the metrics page: %w", err)
	}
	outer, cancelOuter := context.WithCancel(context.WithoutCancel(ctx)) // for what stops last
	defer cancelOuter()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var writers, front errgroup.Group
	run := func(g *errgroup.Group, until context.Context, name string, f func(context.Context) error) {
		g.Go(func() error {
			err := f(until)
			cancel() // nothing may go on without any of the others
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	inner, cancelInner := context.WithCancel(outer)
	run(&writers, inner, "audit", s.audit.Run)
	run(&writers, inner, "ledger", s.ledger.Run)
	run(&writers, inner, "heartbeats", s.agents.Run)
	run(&writers, inner, "page", s.publisher.Run)
	run(&writers, inner, "replicas", s.watchReplicas)
	run(&writers, inner, "activity", s.activity.Run)
	run(&writers, inner, "licence", s.licence.Run)
	run(&writers, inner, "rollup", s.rollup.Run)
	run(&writers, inner, "history", s.purge)
	run(&front, ctx, "sessions", func(ctx context.Context) error {
		<-ctx.Done()
		s.ready.Store(false)
		s.agents.Close()
		s.people.Close()
		s.coordinator.Close()
		s.closeRelay()
		return nil
	})
	run(&front, ctx, "api", func(ctx context.Context) error {
		return webserve.Serve(ctx, s.http, webserve.Options{
			Handler: s.api, ConfigFile: s.o.HTTPWebConfigFile, NoUsers: true, Log: s.log, Bound: s.limits.connections("api"),
		})
	})
	if s.stun != nil {
		run(&front, ctx, "stun", func(ctx context.Context) error { return relay.ServeSTUN(ctx, s.stun) })
	}
	var page errgroup.Group
	if s.prom != nil {
		run(&page, outer, "metrics page", func(ctx context.Context) error {
			return webserve.Serve(ctx, s.prom, webserve.Options{Handler: s.metrics, ConfigFile: s.o.Prometheus.WebConfigFile, Log: s.log, Bound: s.limits.connections("metrics")})
		})
		s.log.Info("serving metrics", "address", s.prom.Addr().String())
	}
	s.ready.Store(true)
	s.log.Info("serving agents and people", "address", s.http.Addr().String(), "access_url", s.o.AccessURL.String())
	errFront := front.Wait()
	cancelInner()
	errWriters := writers.Wait()
	cancelOuter()
	return errors.Join(errFront, errWriters, page.Wait())
}

// workspaceRetention is how long deleted workspaces are remembered: as long as
// history may mention them, which is kept for 35 days and may come late.
const workspaceRetention = 45 * 24 * time.Hour

// purge forgets history and deleted workspaces that are too old, once an hour.
func (s *Server) purge(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if _, err := s.ledger.Purge(ctx, s.o.Now()); err != nil && ctx.Err() == nil {
			s.log.Warn("purge history", "err", err)
		}
		if _, err := s.catalog.Purge(ctx, s.o.Now().Add(-workspaceRetention)); err != nil && ctx.Err() == nil {
			s.log.Warn("purge deleted workspaces", "err", err)
		}
	}
}

// Close releases what New opened. Run calls it.
func (s *Server) Close() {
	for _, l := range []net.Listener{s.http, s.prom} {
		if l != nil {
			_ = l.Close()
		}
	}
	if s.stun != nil {
		_ = s.stun.Close()
	}
	s.closeRelay()
	if s.git != nil {
		s.git.Close()
	}
	if s.db != nil {
		_ = s.db.Close()
	}
}

func (s *Server) closeRelay() {
	if s.relay != nil {
		_ = s.relay.Close()
	}
}

// The keys that must be the same after a restart: peers find the same relay, and
// clients are the same peers.
const (
	relayKeyFile  = "relay-key"
	resumeKeyFile = "resume-key"
)

// keySize is the length of a key, in bytes.
const keySize = 32

// key returns a key, made once if there is a state directory. Without one it is
// nil, which stands for a new one each time.
func (s *Server) key(file string) ([]byte, error) {
	if s.o.StateDir == "" {
		return nil, nil
	}
	return makeKey(filepath.Join(s.o.StateDir, file))
}

// makeKey reads a key, which is made if there is none.
func makeKey(path string) ([]byte, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, keySize)
		_, _ = rand.Read(key) // never fails
		if err := os.WriteFile(path, key, 0o600); err != nil {
			return nil, fmt.Errorf("make a key: %w", err)
		}
	}
	return readKey(path)
}

func readKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) != keySize {
		err = fmt.Errorf("%s has %d bytes, not %d (head -c 32 /dev/urandom makes a key)", path, len(key), keySize)
	}
	if err != nil {
		return nil, fmt.Errorf("read a key: %w", err)
	}
	return key, nil
}

// HTTPAddr is the address for agents and people.
func (s *Server) HTTPAddr() string { return s.http.Addr().String() }

// PrometheusAddr is the address of the metrics page, "" if it is off.
func (s *Server) PrometheusAddr() string {
	if s.prom == nil {
		return ""
	}
	return s.prom.Addr().String()
}
