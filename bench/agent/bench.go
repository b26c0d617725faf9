package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/worktally/worktally/bench/proc"
	"github.com/worktally/worktally/bench/report"
	"github.com/worktally/worktally/e2e/stack"
)

// bench is what is running and what was measured.
type bench struct {
	o          options
	s          *stack.Stack
	progress   io.Writer
	rows       report.Rows
	loadBefore string
	moved      int64 // payload that went through the agent

	server *stack.Server
	agent  *stack.Program
	page   string // the agent's
	token  string
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.progress, format+"\n", args...) }

// measure is one straight line: what the agent costs before anybody uses it, then
// what use costs, and last what it leaves behind.
func (b *bench) measure(ctx context.Context) (err error) {
	b.loadBefore = proc.Load()
	binary, err := os.Stat(filepath.Join(b.s.Bin, "worktally-agent"))
	if err != nil {
		return err
	}
	b.rows.Set(binarySize, float64(binary.Size())/1e6)
	if b.server, err = b.s.StartServer(ctx, 30*time.Second); err != nil {
		return err
	}
	file := b.s.Path("workspace.yaml")
	if err := os.WriteFile(file, []byte("name: "+workspace+"\n"), 0o600); err != nil {
		return err
	}
	if b.token, err = b.server.Apply(ctx, file); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{b.starts, b.idle, b.transfers, b.traffic} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

const workspace = "bench"

// starts measures how long the agent takes; the last one is left running.
func (b *bench) starts(ctx context.Context) (err error) {
	if b.page, err = stack.FreeAddress(); err != nil {
		return err
	}
	var ready, page []float64
	for i := range b.o.rounds {
		if i > 0 {
			if err := b.agent.Stop(10 * time.Second); err != nil {
				return err
			}
		}
		r, p, err := b.start(ctx)
		if err != nil {
			return err
		}
		ready, page = append(ready, r), append(page, p)
	}
	b.say("start to ready %.0f ms, to the first scrape %.0f ms", ready, page)
	b.rows.Set(startToReady, report.Median(ready))
	b.rows.Set(startToPage, report.Median(page))
	return nil
}

// start starts the agent and returns after how many milliseconds the server has
// it for ready, and its own page answers.
func (b *bench) start(ctx context.Context) (ready, page float64, err error) {
	began := time.Now()
	b.agent, err = b.s.Start("agent", []string{"CODER_AGENT_TOKEN=" + b.token}, "worktally-agent",
		"--agent-url", "http://"+b.server.Address, "--prometheus-address", b.page,
		"--state-dir", b.s.Path("state"), "--log-dir", b.s.Path("logs"), "--script-data-dir", b.s.Path("data"))
	if err != nil {
		return 0, 0, err
	}
	sincePage := make(chan float64, 1)
	failed := make(chan error, 1)
	go func() { // ends with the wait
		err := b.await(ctx, func() bool {
			_, err := stack.Get(ctx, "http://"+b.page+"/metrics")
			return err == nil
		})
		sincePage <- milliseconds(began)
		failed <- err
	}()
	err = b.await(ctx, func() bool { return b.lifecycle(ctx) == "ready" })
	ready = milliseconds(began)
	return ready, <-sincePage, errors.Join(err, <-failed)
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since).Microseconds()) / 1000 }

// await tries every 2 ms, which costs the agent little and is precise enough.
func (b *bench) await(ctx context.Context, try func() bool) error {
	tick, limit := time.NewTicker(2*time.Millisecond), time.NewTimer(20*time.Second)
	defer tick.Stop()
	defer limit.Stop()
	for !try() {
		select {
		case <-tick.C:
		case <-limit.C:
			return errors.New("the agent did not start within 20 s")
		case <-b.agent.Done():
			return errors.New("the agent has ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// lifecycle is what the server says of the agent; "" if it cannot be asked.
func (b *bench) lifecycle(ctx context.Context) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.server.Address+"/api/worktally/v1/workspaces", nil)
	if err != nil {
		return ""
	}
	r.Header.Set("Coder-Session-Token", b.server.Token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var list []struct {
		Agents []struct {
			Lifecycle string `json:"lifecycle_state"`
		} `json:"agents"`
	}
	if json.NewDecoder(resp.Body).Decode(&list) != nil || len(list) != 1 || len(list[0].Agents) != 1 {
		return ""
	}
	return list[0].Agents[0].Lifecycle
}

// settle is how long after its start the agent counts as idle.
const settle = 10 * time.Second

func (b *bench) idle(ctx context.Context) error {
	b.say("the agent is idle for %s", settle+b.o.idle)
	if err := pause(ctx, settle); err != nil {
		return err
	}
	before, err := proc.CPUSeconds(b.agent.PID())
	if err != nil {
		return err
	}
	if err := pause(ctx, b.o.idle); err != nil {
		return err
	}
	after, err := proc.CPUSeconds(b.agent.PID())
	if err != nil {
		return err
	}
	now, _, err := proc.Memory(b.agent.PID())
	if err != nil {
		return err
	}
	page, err := stack.ReadPage(ctx, b.page)
	if err != nil {
		return err
	}
	b.rows.Set(idleCPU, 100*(after-before)/b.o.idle.Seconds())
	b.rows.Set(idleRSS, now/1e6)
	b.rows.Set(goroutines, page.Sum("go_goroutines"))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
