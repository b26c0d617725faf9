package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

// ticking is a workspace whose script runs every second, well and badly in turn,
// and writes down how. It waits while there is a file "hold", so that counts can
// be compared at rest.
const ticking = `    scripts:
      - name: greet
        on: start
        script: echo true >>"$E2E/notes"
      - name: tick
        cron: "* * * * * *"
        script: |
          while [ -e "$E2E/hold" ]; do sleep 0.05; done
          if [ $(($(wc -l <"$E2E/notes") % 3)) -eq 2 ]; then echo false >>"$E2E/notes"; exit 1; fi
          echo true >>"$E2E/notes"
`

// trouble is what may happen to the server of a working agent.
type trouble string

const (
	killed        trouble = "the server is killed at a random moment"
	cutOff        trouble = "the connection breaks at a random moment"
	lostReply     trouble = "a report is committed, the reply is lost, the connection breaks"
	killedReplies trouble = "a report is committed, the server is killed before the reply arrives"
)

func TestServerKilled_NothingLostNothingDoubled(t *testing.T) {
	t.Parallel()
	troubles := []trouble{killed, killed, killed, cutOff, cutOff, lostReply, lostReply, killedReplies, killedReplies}
	surviveTroubles(t, troubles, func(*world) {})
}

func TestServerKilled_PostgreSQL(t *testing.T) {
	t.Parallel()
	dsn := postgres.DSN(t)
	surviveTroubles(t, []trouble{killed, lostReply, killedReplies}, func(w *world) {
		w.Env = append(w.Env, "WORKTALLY_DATABASE_URL="+dsn)
	})
}

func surviveTroubles(t *testing.T, troubles []trouble, prepare func(*world)) {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("E2E_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("E2E_SEED=%d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	rng.Shuffle(len(troubles), func(i, j int) { troubles[i], troubles[j] = troubles[j], troubles[i] })

	w := newWorld(t)
	prepare(w)
	w.startServer()
	w.apply(spec("ws", ticking))
	network := newCutter(t, w.server.Address)
	var err error
	w.agent, err = w.StartAgent(t.Context(), "worktally-agent", network.url(), w.token)
	w.must(err)

	held := w.hold()
	load := w.startLoad(rng.Uint64(), rng.Uint64())
	for _, trouble := range troubles {
		t.Log(trouble)
		w.bring(trouble, network, rng)
		w.awaitReport()
	}
	opened := load.stop(w) + held.end(w) // the held session outlived it all
	w.write("hold", "")
	w.await(patience, "both pages, the proxy and the scripts agree", func(ctx context.Context) error {
		return w.compare(ctx, float64(opened))
	})
	page, err := w.agent.Metrics(t.Context())
	w.must(err)
	if n := page.Sum("agent_sessions_with_server_total"); n < float64(len(troubles)) {
		t.Errorf("the agent had %v sessions with the server: the troubles did not happen", n)
	}
	if n := page.Sum("agent_dropped_total") + page.Sum("agent_reports_total", `result="refused"`); n != 0 {
		t.Errorf("%v things were dropped or refused", n)
	}
	w.must(os.Remove(w.Path("hold")))
}

// bring brings trouble over the server.
func (w *world) bring(what trouble, network *cutter, rng *rand.Rand) {
	w.t.Helper()
	if what == lostReply || what == killedReplies {
		network.swallow.Store(true)
		w.awaitReport()
	} else {
		w.pause(time.Duration(rng.Int64N(int64(1200 * time.Millisecond))))
	}
	if what == killed || what == killedReplies {
		w.server.Kill()
		w.pause(time.Duration(rng.Int64N(int64(500 * time.Millisecond))))
	}
	network.cut()
	if what == killed || what == killedReplies {
		w.must(w.server.Start(w.t.Context()))
	}
}

// pause is a random moment, not a wait for anything.
func (w *world) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
	}
}

// compare compares everything that was counted with everything that was done.
func (w *world) compare(ctx context.Context, opened float64) error {
	before, err := w.notes()
	if err != nil {
		return err
	}
	agent, server, err := stack.BothPages(ctx, w.agent, w.server)
	if err != nil {
		return err
	}
	after, err := w.notes()
	if err != nil {
		return err
	}
	if before != after {
		return errors.New("a script ended meanwhile")
	}
	var s same
	for success, n := range map[string]int{`success="true"`: before.ok, `success="false"`: before.failed} {
		s.check("scripts "+success, float64(n), agent.Sum("agent_scripts_executed_total", success),
			server.Sum("agent_scripts_executed_total", success), server.Sum("worktally_workspace_scripts_total", success))
	}
	s.check("sessions opened", opened, agent.Sum("agent_sessions_opened_total"), server.Sum("agent_sessions_opened_total"), server.Sum("worktally_workspace_sessions_total"))
	s.check("sessions ended", opened, agent.Sum("agent_sessions_ended_total"), server.Sum("agent_sessions_ended_total"))
	s.check("length of sessions", opened, agent.Sum("agent_session_duration_seconds"), server.Sum("agent_session_duration_seconds"))
	s.check("open sessions", 0, agent.Sum("agent_open_sessions"), server.Sum("agent_open_sessions"), server.Sum("coderd_agentstats_session_count_ssh"))
	to, from := w.agent.SSH.Counts()
	s.check("bytes to the agent", float64(to), agent.Sum("agent_network_receive_bytes_total"),
		server.Sum("agent_network_receive_bytes_total"), server.Sum("worktally_workspace_bytes_total", `direction="receive"`))
	s.check("bytes from the agent", float64(from), agent.Sum("agent_network_transmit_bytes_total"),
		server.Sum("agent_network_transmit_bytes_total"), server.Sum("worktally_workspace_bytes_total", `direction="transmit"`))
	sameCounters(&s, agent, server)
	return s.err()
}

// sameCounters: whatever an agent counts and a server shows is equal on both
// pages.
func sameCounters(s *same, agent, server stack.Page) {
	for key, v := range agent {
		name, _, _ := strings.Cut(key, "{")
		counter := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_duration_seconds")
		if counter && strings.HasPrefix(name, "agent_") && server.Has(name) {
			got, ok := server[key]
			if !ok {
				got = -1
			}
			s.check(key, v, got)
		}
	}
}

// held is an SSH session that stays open until it is ended.
type held struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// hold opens a session and sees that it lives.
func (w *world) hold(options ...string) *held {
	w.t.Helper()
	h := &held{cmd: w.SSHCommand(w.t.Context(), w.agent.SSH.Addr(), append(options, "exec cat")...)}
	var err error
	h.in, err = h.cmd.StdinPipe()
	w.must(err)
	out, err := h.cmd.StdoutPipe()
	w.must(err)
	h.out = bufio.NewReader(out)
	h.cmd.WaitDelay = patience
	w.must(h.cmd.Start())
	h.echo(w)
	return h
}

// echo sees that the session lives.
func (h *held) echo(w *world) {
	w.t.Helper()
	force := time.AfterFunc(patience, func() { _ = h.cmd.Process.Kill() })
	defer force.Stop()
	_, err := io.WriteString(h.in, "ping\n")
	w.must(err)
	line, err := h.out.ReadString('\n')
	if err != nil || line != "ping\n" {
		w.t.Fatalf("the session answered %q, %v", line, err)
	}
}

// end sees that the session lives and ends it; it was one.
func (h *held) end(w *world) int {
	w.t.Helper()
	h.echo(w)
	w.must(h.in.Close())
	w.must(h.cmd.Wait())
	return 1
}

// load is a few people who run SSH commands all the time.
type load struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	done   int
	err    error
}

// startLoad starts a person for each seed.
func (w *world) startLoad(seeds ...uint64) *load {
	l := &load{}
	ctx, cancel := context.WithCancel(w.t.Context())
	l.cancel = cancel
	for i, seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		l.wg.Go(func() {
			for ctx.Err() == nil {
				err := w.oneCommand(rng)
				l.mu.Lock()
				l.done++
				l.err = errors.Join(l.err, err)
				l.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	return l
}

// stop returns how many commands were run.
func (l *load) stop(w *world) int {
	w.t.Helper()
	l.cancel()
	l.wg.Wait()
	if l.err != nil || l.done < 3 {
		w.t.Fatalf("%d commands were run: %v", l.done, l.err)
	}
	return l.done
}

// oneCommand moves a known number of bytes, up or down.
func (w *world) oneCommand(rng *rand.Rand) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), patience)
	defer cancel()
	n := rng.IntN(200_000)
	if rng.IntN(2) == 0 {
		out, err := w.SSHCommand(ctx, w.agent.SSH.Addr(), fmt.Sprintf("head -c %d /dev/zero", n)).Output()
		if err != nil || len(out) != n {
			return fmt.Errorf("%d bytes down: %d arrived: %w", n, len(out), err)
		}
		return nil
	}
	cmd := w.SSHCommand(ctx, w.agent.SSH.Addr(), "wc -c")
	cmd.Stdin = bytes.NewReader(make([]byte, n))
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != strconv.Itoa(n) {
		return fmt.Errorf("%d bytes up: %s arrived: %w", n, got, err)
	}
	return nil
}
