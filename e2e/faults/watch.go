package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

// watchEvery is how often the watcher looks.
const watchEvery = 200 * time.Millisecond

// resent is the sum of windows that the server got again.
const resent = "resent"

// watcher looks at the deployment's counters all the time: they never fall and
// never say more than was done. It also adds up counters that start over with
// their process.
type watcher struct {
	w    *world
	done chan struct{}
	stop func()
	last counts
	sums map[string]*rising
}

// rising adds up a counter over the runs of its process.
type rising struct{ last, sum float64 }

func (r *rising) see(v float64) {
	if v < r.last {
		r.last = 0
	}
	r.sum, r.last = r.sum+v-r.last, v
}

func startWatcher(ctx context.Context, w *world) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	t := &watcher{w: w, done: make(chan struct{}), sums: make(map[string]*rising)}
	var once sync.Once
	t.stop = func() {
		once.Do(func() {
			cancel()
			<-t.done
			t.tell(w.r)
		})
	}
	go func() {
		defer close(t.done)
		for pause(ctx, watchEvery) == nil {
			t.look(ctx)
		}
	}()
	return t
}

// tell writes down what was added up.
func (t *watcher) tell(r *result) {
	for _, name := range slices.Sorted(maps.Keys(t.sums)) {
		n := int(t.sums[name].sum)
		if name == resent {
			r.Resends += n
		} else if n > 0 {
			r.Drops += n
			r.Notes = append(r.Notes, fmt.Sprintf("dropped: %d, %s", n, name))
		}
	}
}

func (t *watcher) see(name string, v float64) {
	if t.sums[name] == nil {
		t.sums[name] = &rising{}
	}
	t.sums[name].see(v)
}

// seeAll adds up every series of a family.
func (t *watcher) seeAll(p stack.Page, family string) {
	for key, v := range p {
		if strings.HasPrefix(key, family+"{") {
			t.see(key, v)
		}
	}
}

// look reads the pages of those who are up.
func (t *watcher) look(ctx context.Context) {
	spaces := t.w.workspaces()
	for _, ws := range spaces {
		_ = ws.model.observe() // what cannot be read is found out by settle
		if page, err := ws.agent.Metrics(ctx); err == nil {
			t.seeAll(page, "agent_dropped_total")
		}
	}
	page, err := t.w.server.Metrics(ctx)
	// What was there once and is gone has fallen to nothing.
	if err != nil || t.last == (counts{}) && !page.Has("worktally_workspace_sessions_total") {
		return
	}
	t.see(resent, page.Sum("worktally_ledger_windows_total", `result="resent"`))
	t.seeAll(page, "worktally_ledger_dropped_total")
	now := ofDeployment(page)
	most, err := mostOf(spaces)
	if err == nil && now.excess(most) > 0 && pause(ctx, time.Second) == nil {
		// What an agent has sent counts here when it was read, a moment later.
		most, err = mostOf(spaces)
	}
	if err != nil {
		return
	}
	t.w.r.watched(t.last.excess(now), now, most)
	t.last = now
}

// mostOf is the most that all agents together may have counted.
func mostOf(spaces []*workspace) (most counts, err error) {
	for _, ws := range spaces {
		_, maybe, err := ws.model.now()
		if err != nil {
			return most, err
		}
		most = most.plus(maybe)
	}
	return most, nil
}

// alarms counts what looks like a mistake of the programs in their logs.
func alarms(dir string) (n int, err error) {
	alarming := regexp.MustCompile(`panic|BUG:|DATA RACE|fatal error`)
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, log := range logs {
		text, errRead := os.ReadFile(log)
		err = errors.Join(err, errRead)
		n += len(alarming.FindAll(text, -1))
	}
	return n, err
}

// reachable says whether the server's page answers.
func (w *world) reachable(ctx context.Context) error {
	_, err := stack.Get(ctx, "http://"+w.server.Page+"/-/ready")
	return err
}
