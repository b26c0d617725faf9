package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/faultnet"
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

// Defects 10.5 and 10.6: what was cut off before or after delivery, and a server that
// restarts under load, change no total.
func TestDefect10_5_10_6_NothingLostNothingDoubled(t *testing.T) {
	t.Parallel()
	for name, troubles := range map[string][]trouble{
		"dying server":   {killed, killed, killed, killedReplies, killedReplies},
		"broken network": {cutOff, cutOff, lostReply, lostReply, killed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			surviveTroubles(t, troubles, func(*world) {})
		})
	}
}

func TestDefect10_5_10_6_PostgreSQL(t *testing.T) {
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
	network := w.network(w.server.Address, seed)
	var err error
	w.agent, err = w.StartAgent(t.Context(), "worktally-agent", network.URL(), w.token)
	w.must(err)

	held := w.hold()
	load := w.startLoad(rng.Uint64(), rng.Uint64())
	for _, trouble := range troubles {
		began := time.Now()
		w.bring(trouble, network, rng)
		w.awaitReport()
		t.Logf("%s; a report came through after %s", trouble, time.Since(began).Round(time.Millisecond))
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
func (w *world) bring(what trouble, network *faultnet.Proxy, rng *rand.Rand) {
	w.t.Helper()
	if what == lostReply || what == killedReplies {
		network.Set(faultnet.Faults{LoseReplies: true})
		w.must(stack.AwaitLostReply(w.t.Context(), patience, w.agent, w.server, interval))
	} else {
		w.pause(time.Duration(rng.Int64N(int64(1200 * time.Millisecond))))
	}
	if what == killed || what == killedReplies {
		w.server.Kill()
		w.pause(time.Duration(rng.Int64N(int64(500 * time.Millisecond))))
	}
	network.Cut()
	if what == killed || what == killedReplies {
		w.must(w.server.Start(w.t.Context()))
	}
}

// network is what an agent reaches a server through.
func (w *world) network(target string, seed uint64) *faultnet.Proxy {
	w.t.Helper()
	p, err := faultnet.ListenLoopback("tcp", target, seed)
	w.must(err)
	w.t.Cleanup(p.Close)
	return p
}

// pause is a random moment, not a wait for anything.
func (w *world) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
	}
}
