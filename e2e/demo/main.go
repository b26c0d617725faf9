// Command demo shows the whole of Worktally on loopback: it starts a server and
// an agent, creates a workspace, opens real SSH, SFTP and terminal sessions, and
// prints what both metrics pages say. With -once it closes the sessions, compares
// what was counted with what was done, and exits.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	once := flag.Bool("once", false, "close the sessions, compare, and exit")
	dir := flag.String("dir", ".demo", "where the demo keeps its files; it is emptied")
	bin := flag.String("bin", "bin", "where the two programs are")
	spec := flag.String("workspace", "testdata/workspaces/demo.yaml", "the workspace to create")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *bin, *spec, *once); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// run is the demo from the beginning to the end, one step a line.
func run(ctx context.Context, dir, bin, spec string, once bool) (err error) {
	d, err := newDemo(ctx, dir, bin, spec)
	if err != nil {
		return err
	}
	defer func() { d.sessions.kill(); err = errors.Join(err, d.Close()) }()
	started := time.Now()
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"start the server", d.startServer},
		{"create the workspace", d.createWorkspace},
		{"start the agent", d.startAgent},
		{"wait until the start scripts have ended", d.awaitStart},
		{"open SSH, SFTP, VS Code and terminal sessions", d.openSessions},
		{"reach the workspace over the tailnet", d.openTailnet},
		{"wait until both pages show them", d.awaitSessions},
	}
	for _, s := range steps {
		fmt.Printf("%6.1fs  %s\n", time.Since(started).Seconds(), s.what)
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	fmt.Println()
	if err := d.printPages(ctx); err != nil {
		return err
	}
	fmt.Printf("\nserver  http://%s        metrics http://%s/metrics\nagent   ssh to %s   metrics http://%s/metrics\nfiles   %s (logs, state, keys)\n",
		d.server.Address, d.server.Page, d.agent.SSH.Addr(), d.agent.Page, d.Dir)
	if !once {
		fmt.Println("\nup until Ctrl-C")
		<-ctx.Done()
		return nil
	}
	fmt.Printf("\n%6.1fs  close the sessions and compare\n", time.Since(started).Seconds())
	if err := d.closeSessions(); err != nil {
		return fmt.Errorf("close the sessions: %w", err)
	}
	if err := d.compare(ctx); err != nil {
		return err
	}
	fmt.Printf("%6.1fs  equal: the agent's page, the server's page, and what the demo did (kept in %s and %s)\n",
		time.Since(started).Seconds(), d.Path(agentProm), d.Path(serverProm))
	return nil
}
