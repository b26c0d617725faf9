package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/faultnet"
)

// workspace is an agent, the network between it and the server, the people who
// use it, and what it must have counted.
type workspace struct {
	w     *world
	name  string
	agent *stack.Agent
	link  *faultnet.Proxy
	model *model
	load  *load
}

// tick is a script that runs every second, well and badly in turn, and notes for
// which agent process. It waits while there is a file "hold".
const tick = `    scripts:
      - name: tick
        cron: "* * * * * *"
        script: |
          while [ -e "$FAULTS/hold" ]; do sleep 0.05; done
          if [ $(($(wc -l <"$FAULTS/%[1]s.notes") %% 3)) -eq 2 ]; then echo "$PPID false" >>"$FAULTS/%[1]s.notes"; exit 1; fi
          echo "$PPID true" >>"$FAULTS/%[1]s.notes"
`

func document(name, agents string) string {
	return "name: " + name + "\ntemplate: {name: tmpl, version: \"1\"}\nagents:" + agents
}

func withAgent(name string) string {
	return document(name, "\n  - name: main\n"+fmt.Sprintf(tick, name))
}

// apply tells the server of a workspace and returns the token of a new agent.
func (w *world) apply(ctx context.Context, name, text string) (token string, err error) {
	file := w.Path(name + ".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", err
	}
	return w.server.Apply(ctx, file)
}

// addWorkspace makes a workspace, starts its agent with further arguments, and
// people who use it.
func (w *world) addWorkspace(ctx context.Context, name string, args ...string) (*workspace, error) {
	notes := w.Path(name + ".notes")
	if err := os.WriteFile(notes, []byte("\n"), 0o600); err != nil {
		return nil, err
	}
	token, err := w.apply(ctx, name, withAgent(name))
	if err != nil {
		return nil, err
	}
	link, err := faultnet.ListenLoopback("tcp", w.server.Address, w.seed)
	if err != nil {
		return nil, err
	}
	w.closers = append(w.closers, link.Close)
	ws := &workspace{w: w, name: name, link: link}
	w.o.starting.Lock()
	ws.agent, err = w.StartAgent(ctx, "agent-"+name, link.URL(), token, args...)
	w.o.starting.Unlock()
	if err != nil {
		return nil, err
	}
	ws.model = &model{ssh: ws.agent.SSH, notes: notes}
	ws.model.begin(counts{}, ws.agent.PID())
	signer, err := w.Signer()
	if err != nil {
		return nil, err
	}
	ws.load = startLoad(ctx, ws.model, signer, people, w.rng)
	w.addSpace(ws)
	return ws, nil
}

// killAgent kills the agent under load, starts it again, and compares what it has
// kept with what was promised.
func (ws *workspace) killAgent(ctx context.Context, down time.Duration) error {
	return ws.restartAfter(ctx, func() error { return pause(ctx, down) })
}

// restartAfter kills the agent, does something, and starts it again.
func (ws *workspace) restartAfter(ctx context.Context, do func() error) error {
	return ws.restart(ctx, counts{}, func() (counts, error) {
		killed := time.Now()
		ws.agent.Kill()
		ws.w.r.Kills++
		ws.model.killed(people)
		return ws.model.promised(killed), do()
	})
}

// stopAgent stops the agent in order, and expects everything to be kept.
func (ws *workspace) stopAgent(ctx context.Context, meanwhile func() error) error {
	ws.load.pause(false)
	ws.load.idle()
	// What the agent is told to stop before it has read it is nobody's count.
	if err := stack.Await(ctx, settleLimit, func() error { return ws.quiet(ctx) }); err != nil {
		return err
	}
	// A script that the stop interrupts has failed, and cannot note it.
	interrupted := counts{}
	interrupted[scriptsFailed] = 1
	return ws.restart(ctx, interrupted, func() (counts, error) {
		if err := errors.Join(ws.held(ctx), ws.agent.Stop(patience)); err != nil {
			return counts{}, err
		}
		sure, _, err := ws.model.now()
		return sure, errors.Join(err, meanwhile())
	})
}

// held waits for the script that was past the hold when it came: were it interrupted
// between its note and its end, it would have failed in spite of the note.
func (ws *workspace) held(ctx context.Context) error {
	return stack.Await(ctx, settleLimit, func() error {
		before, _, err := ws.model.now()
		if err := errors.Join(err, pause(ctx, time.Second)); err != nil {
			return err
		}
		page, err := ws.agent.Metrics(ctx)
		if err != nil {
			return err
		}
		now, _, err := ws.model.now()
		return errors.Join(err,
			differ("scripts a second later", before.scripts(), now.scripts()),
			differ("scripts before the stop", now.scripts(), ofAgent(page).scripts()))
	})
}

// quiet says whether the agent has counted all sessions and bytes. Scripts go on.
func (ws *workspace) quiet(ctx context.Context) error {
	page, err := ws.agent.Metrics(ctx)
	if err != nil {
		return err
	}
	want, _, err := ws.model.now()
	got := ofAgent(page)
	got[scriptsOK], got[scriptsFailed] = want[scriptsOK], want[scriptsFailed]
	return errors.Join(err, differ("before the stop", want, got))
}

// restart ends the agent by a func that returns what must be kept, and starts it
// again. unseen is what the end itself may have made the agent count.
func (ws *workspace) restart(ctx context.Context, unseen counts, end func() (counts, error)) error {
	ws.load.pause(true)
	if err := ws.w.hold(); err != nil {
		return err
	}
	ws.model.mayAdd(unseen)
	least, err := end()
	if err != nil {
		return err
	}
	ws.load.idle()
	sure, most, err := ws.model.now()
	if err != nil {
		return err
	}
	if err := errors.Join(awaitFree(ctx, ws.agent.Page), awaitFree(ctx, ws.agent.SSHAddress), ws.agent.Start(ctx)); err != nil {
		return err
	}
	kept, err := ws.kept(ctx, least)
	if err != nil {
		return err
	}
	ws.w.r.note(fmt.Sprintf("%s after a restart", ws.name), least, kept, most)
	ws.w.r.Unpromised += sure.excess(kept)
	ws.model.begin(kept, ws.agent.PID())
	if err := ws.w.release(); err != nil {
		return err
	}
	ws.load.resume()
	return nil
}

// kept is what the agent that was started again has on its page, as soon as that
// is what was expected; or what it has for good.
func (ws *workspace) kept(ctx context.Context, least counts) (kept counts, err error) {
	err = stack.Await(ctx, settleLimit, func() error {
		page, err := ws.agent.Metrics(ctx)
		if err != nil {
			return err
		}
		if kept = ofAgent(page); least.excess(kept) > 0 {
			return differ("what was kept", least, kept)
		}
		return nil
	})
	if ctx.Err() == nil && !ws.agent.Exited() {
		err = nil // the result says it
	}
	return kept, err
}

// awaitFree waits until nobody listens on an address. A child that a killed agent
// was about to start holds its listeners for some milliseconds more.
func awaitFree(ctx context.Context, address string) error {
	return stack.Await(ctx, settleLimit, func() error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		return l.Close()
	})
}
