package reportclient

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// callTimeout bounds a single call; the server answers in milliseconds.
const callTimeout = 30 * time.Second

// session opens a session and serves it until it ends. established says that
// the server accepted it.
func (c *Client) session(ctx context.Context, reconnect bool) (established bool, err error) {
	conn, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	api := agentpb.NewDRPCAgentClient(conn)
	manifest, err := c.fetchManifest(ctx, api)
	if err != nil {
		return false, err
	}
	c.health.connected.Store(true)
	c.health.sessions.Add(1)
	defer c.health.connected.Store(false)
	c.log.Info("session with the server established", "api_version", apiVersion, "reconnect", reconnect)
	g, ctx := errgroup.WithContext(ctx)
	s := &session{c: c, api: api}
	g.Go(func() error { return c.deliver(ctx, api, conn.Closed()) })
	g.Go(func() error {
		if err := c.takeManifest(ctx, api, manifest); err != nil {
			return err
		}
		for _, r := range c.o.Routines {
			if r.UntilShutdown {
				s.runUntilShutdown(ctx, g, r.Name, r.Run)
			} else {
				s.run(ctx, g, r.Name, r.Run)
			}
		}
		s.run(ctx, g, "reports", func(ctx context.Context, api agentpb.DRPCAgentClient) error {
			return c.reporter.session(ctx, api, reconnect)
		})
		return nil
	})
	return true, g.Wait()
}

type session struct {
	c   *Client
	api agentpb.DRPCAgentClient
}

type routine func(context.Context, agentpb.DRPCAgentClient) error

// run starts a routine. A call that the server does not serve ends the routine
// and not the session.
func (s *session) run(ctx context.Context, g *errgroup.Group, name string, f routine) {
	g.Go(func() error {
		err := f(ctx, s.api)
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case wire.IsUnimplemented(err):
			s.c.log.Info("the server does not serve a call", "routine", name)
			return nil
		}
		return fmt.Errorf("%s: %w", name, err)
	})
}

func (s *session) runUntilShutdown(ctx context.Context, g *errgroup.Group, name string, f routine) {
	s.run(ctx, g, name, func(ctx context.Context, api agentpb.DRPCAgentClient) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.c.shutdown, cancel)()
		err := f(ctx, api)
		if s.c.shutdown.Err() != nil {
			return nil
		}
		return err
	})
}

func (c *Client) fetchManifest(ctx context.Context, api agentpb.DRPCAgentClient) (*agentpb.Manifest, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	m, err := api.GetManifest(ctx, &agentpb.GetManifestRequest{})
	if err != nil {
		return nil, fmt.Errorf("get manifest: %w", err)
	}
	if err := checkManifest(m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return m, nil
}

// checkManifest refuses a manifest whose identifiers are damaged.
func checkManifest(m *agentpb.Manifest) error {
	id, errAgent := wire.UUID("agent_id", m.GetAgentId())
	_, errWorkspace := wire.UUID("workspace_id", m.GetWorkspaceId())
	errs := []error{errAgent, errWorkspace}
	if errAgent == nil && id == [16]byte{} {
		errs = append(errs, errors.New("agent_id is all zero"))
	}
	for i, s := range m.GetScripts() {
		_, err := wire.UUID(fmt.Sprintf("scripts[%d].id", i), s.GetId())
		_, errSource := wire.UUID(fmt.Sprintf("scripts[%d].log_source_id", i), s.GetLogSourceId())
		errs = append(errs, err, errSource)
	}
	for i, a := range m.GetApps() {
		_, err := wire.UUID(fmt.Sprintf("apps[%d].id", i), a.GetId())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Client) takeManifest(ctx context.Context, api agentpb.DRPCAgentClient, m *agentpb.Manifest) error {
	workspace, _ := wire.UUID("workspace_id", m.GetWorkspaceId()) // checked before
	c.reporter.identify(identity{workspace: workspace, agent: m.GetAgentName()})
	directory, err := c.o.OnManifest(ctx, m)
	if err != nil {
		return fmt.Errorf("take manifest in: %w", err)
	}
	startup := &agentpb.Startup{
		Version:           c.o.Version,
		ExpandedDirectory: directory,
		Subsystems:        c.o.Subsystems,
		Worktally:         &worktallypb.StartupExtension{Protocol: protocol},
	}
	if c.o.MetricsAddress != nil {
		startup.Worktally.MetricsAddress = c.o.MetricsAddress()
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := api.UpdateStartup(ctx, &agentpb.UpdateStartupRequest{Startup: startup}); err != nil {
		return fmt.Errorf("update startup: %w", err)
	}
	return nil
}
