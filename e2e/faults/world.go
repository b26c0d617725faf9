package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/retry"
)

const (
	// interval is the shortest between two reports.
	interval = time.Second
	// patience is how long anything may take that has no limit of its own.
	patience = 60 * time.Second
	// settleLimit is when what an agent kept must be on its page.
	settleLimit = 30 * time.Second
	// people is how many use a workspace at once.
	people = 3
)

// world is a server and the workspaces around it. It belongs to one goroutine.
type world struct {
	*stack.Stack
	seed    uint64
	rng     *rand.Rand
	server  *stack.Server
	r       *result
	watch   *watcher
	closers []func()
	o       options

	mu     sync.Mutex
	spaces []*workspace // the watcher reads them too
}

// newWorld starts a server whose agents report that often.
func newWorld(ctx context.Context, o options, every time.Duration, r *result) (*world, error) {
	// A short path, because there will be a unix socket in it.
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return nil, err
	}
	s, err := stack.New(ctx, dir, o.bin)
	if err != nil { // as for all that is left when somebody interrupts a long run
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.Env = []string{"FAULTS=" + s.Dir}
	w := &world{Stack: s, seed: r.Seed, rng: rand.New(rand.NewPCG(r.Seed, 0)), r: r, o: o}
	o.starting.Lock()
	w.server, err = w.StartServer(ctx, every)
	o.starting.Unlock()
	if err != nil {
		return w, errors.Join(err, w.end())
	}
	w.watch = startWatcher(ctx, w)
	return w, nil
}

// end stops everything and reads the logs. The directory stays if something is
// wrong.
func (w *world) end() error {
	for _, ws := range w.workspaces() {
		ws.load.cancel()
		_, _ = ws.load.stop()
	}
	if w.watch != nil {
		w.watch.stop()
	}
	_ = w.release()
	err := w.Close()
	for _, f := range slices.Backward(w.closers) {
		f()
	}
	n, errLogs := alarms(w.Dir)
	w.r.Panics += n
	return errors.Join(err, errLogs)
}

func (w *world) workspaces() []*workspace {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.spaces)
}

func (w *world) addSpace(ws *workspace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spaces = append(w.spaces, ws)
}

// hold keeps scripts from ending until release.
func (w *world) hold() error { return os.WriteFile(w.Path("hold"), nil, 0o600) }

func (w *world) release() error { return os.RemoveAll(w.Path("hold")) }

// killServer kills the server under load and starts it again.
func (w *world) killServer(ctx context.Context, down time.Duration) error {
	w.server.Kill()
	w.r.Kills++
	if err := pause(ctx, down); err != nil {
		return err
	}
	return w.server.Start(ctx)
}

// awaitReport waits for a report that is committed after the call.
func (w *world) awaitReport(ctx context.Context) error {
	before := -1.0
	return stack.Await(ctx, patience, func() error {
		page, err := w.server.Metrics(ctx)
		if err != nil {
			return err
		}
		n := page.Sum("worktally_reports_total", `result="ok"`)
		if before < 0 || n < before {
			before = n
		}
		if n <= before {
			return errors.New("no report came through")
		}
		return nil
	})
}

// random is a random duration below the limit.
func (w *world) random(limit time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(int64(limit)))
}

// pause lets time go by, in which something may happen.
func pause(ctx context.Context, d time.Duration) error { return retry.Sleep(ctx, d) }

// settle ends the load and compares every page with the models. What is still
// different when patience ends is lost or doubled.
func (w *world) settle(ctx context.Context) error {
	var errs []error
	for _, ws := range w.workspaces() {
		done, err := ws.load.stop()
		w.r.Events += done
		if err != nil {
			errs = append(errs, fmt.Errorf("a session in %s: %w", ws.name, err))
		}
		if done == 0 {
			errs = append(errs, fmt.Errorf("no session in %s", ws.name))
		}
	}
	if err := w.hold(); err != nil {
		return err
	}
	var seen []sight
	err := stack.Await(ctx, patience, func() (err error) {
		seen, err = w.look(ctx)
		for _, s := range seen {
			err = errors.Join(err, differ(s.where, s.want, s.got), s.ends())
		}
		return err
	})
	for _, s := range seen {
		w.r.note(s.where, s.want, s.got, s.want)
		w.r.noteEnds(s)
	}
	if len(seen) > 0 {
		last := seen[len(seen)-1].want
		w.r.Events += int(last[scriptsOK] + last[scriptsFailed])
	}
	return errors.Join(append(errs, err)...)
}

// sight is what should be somewhere, and what is.
type sight struct {
	where     string
	want, got counts
	// endless is how many sessions were opened, and have neither ended nor are open;
	// cut how many of those there may be.
	endless, cut float64
}

// ends says whether each session has ended once.
func (s sight) ends() error {
	switch {
	case s.endless < 0:
		return fmt.Errorf("%s: %.0f sessions have ended twice", s.where, -s.endless)
	case s.endless > s.cut:
		return fmt.Errorf("%s: %.0f sessions have no end, and %.0f may have none", s.where, s.endless, s.cut)
	}
	return nil
}

// endless counts them on a page.
func endless(p stack.Page, labels ...string) float64 {
	return p.Sum("agent_sessions_opened_total", labels...) - p.Sum("agent_sessions_ended_total", labels...) - p.Sum("agent_open_sessions", labels...)
}

// look reads all pages. The deployment comes last.
func (w *world) look(ctx context.Context) (seen []sight, err error) {
	all := counts{}
	page, err := w.server.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	for _, ws := range w.workspaces() {
		own, err := ws.agent.Metrics(ctx)
		if err != nil {
			return nil, err
		}
		want, _, err := ws.model.now()
		if err != nil {
			return nil, err
		}
		all = all.plus(want)
		cut, of := ws.model.mayBeCut(), `workspace_name="`+ws.name+`"`
		seen = append(seen, sight{"the page of " + ws.name, want, ofAgent(own), endless(own), cut},
			sight{ws.name + " on the server's page", want, ofAgent(page, of), endless(page, of), cut})
	}
	deployment, err := stack.ReadPath(ctx, w.server.Page, "/metrics/deployment")
	if err != nil {
		return nil, err
	}
	return append(seen, sight{where: "the deployment", want: all, got: ofDeployment(deployment)}), nil
}
