package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/faultnet"
)

func newModel(t *testing.T, notes string) *model {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := faultnet.Listen(l, "tcp", "127.0.0.1:1", 0)
	t.Cleanup(p.Close)
	file := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(file, []byte(notes), 0o600); err != nil {
		t.Fatal(err)
	}
	return &model{ssh: p, notes: file}
}

func TestModel_WhatIsSureAndWhatMayBe(t *testing.T) {
	m := newModel(t, "\n7 true\n77 true\n7 false\n7 true\n")
	m.begin(counts{sessions: 10, received: 5}, 7)
	m.try()()
	m.try() // nobody knows how it went
	sure, maybe, err := m.now()
	want := counts{sessions: 11, received: 5, scriptsOK: 2, scriptsFailed: 1}
	if diff := cmp.Diff(want, sure); diff != "" || err != nil {
		t.Errorf("sure (-want +got): %v\n%s", err, diff)
	}
	want[sessions] = 12
	if diff := cmp.Diff(want, maybe); diff != "" {
		t.Errorf("maybe (-want +got):\n%s", diff)
	}
}

func TestModel_WhatTheEndMayAdd(t *testing.T) {
	m := newModel(t, "\n7 true\n")
	m.begin(counts{}, 7)
	m.mayAdd(counts{scriptsFailed: 1})
	if sure, maybe, err := m.now(); sure != (counts{scriptsOK: 1}) || maybe != (counts{scriptsOK: 1, scriptsFailed: 1}) || err != nil {
		t.Errorf("%v, %v, %v", sure, maybe, err)
	}
	m.begin(counts{scriptsOK: 1, scriptsFailed: 1}, 8)
	if sure, maybe, err := m.now(); sure != maybe || err != nil {
		t.Errorf("in the next run: %v, %v, %v", sure, maybe, err)
	}
}

func TestModel_TakesInWhatStrangersDid(t *testing.T) {
	m := newModel(t, "\n7 true\n")
	m.begin(counts{received: 5}, 7)
	m.expectStrangers()
	m.try()
	sure, maybe, err := m.now()
	if want := (counts{received: 5, scriptsOK: 1}); sure != want || err != nil {
		t.Errorf("with them there: %v, %v", sure, err)
	}
	if maybe[sessions] != 1 || maybe[received] < unknown || maybe[transmitted] < unknown || maybe[scriptsOK] != 1 {
		t.Errorf("what may be: %v", maybe)
	}
	got := counts{sessions: 1, received: 100, transmitted: 50, scriptsOK: 1}
	if err := m.strangersCounted(got); err != nil {
		t.Fatal(err)
	}
	m.try()()
	got[sessions]++
	if sure, maybe, err := m.now(); sure != got || maybe != got || err != nil {
		t.Errorf("after they have gone: %v, %v, %v", sure, maybe, err)
	}
}

func TestModel_PromisesWhatIsOldEnough(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &model{ssh: new(faultnet.Proxy), notes: filepath.Join(dir, "none")}
		m.begin(counts{}, 1)
		for range 30 { // one session a second
			time.Sleep(time.Second)
			m.try()()
			if err := m.observe(); err != nil {
				t.Fatal(err)
			}
		}
		if got := m.promised(time.Now()); got[sessions] != 23 {
			t.Errorf("%v sessions are promised, not 23", got[sessions])
		}
		if len(m.moments) > 10 {
			t.Errorf("%d moments are kept", len(m.moments))
		}
	})
}

func TestResult_FindsWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(*result)
		want string
	}{
		"equal":            {func(r *result) { r.note("x", counts{3}, counts{3}, counts{3}) }, "exact"},
		"within bounds":    {func(r *result) { r.note("x", counts{3}, counts{4}, counts{5}) }, "exact"},
		"one lost":         {func(r *result) { r.note("x", counts{3}, counts{2}, counts{5}) }, "FAILED"},
		"one doubled":      {func(r *result) { r.note("x", counts{3}, counts{6}, counts{5}) }, "FAILED"},
		"one for another":  {func(r *result) { r.note("x", counts{3, 3}, counts{4, 2}, counts{3, 3}) }, "FAILED"},
		"fell meanwhile":   {func(r *result) { r.watched(1, counts{3}, counts{3}) }, "FAILED"},
		"above meanwhile":  {func(r *result) { r.watched(0, counts{4}, counts{3}) }, "FAILED"},
		"fine meanwhile":   {func(r *result) { r.watched(0, counts{2}, counts{3}) }, "exact"},
		"all ended":        {func(r *result) { r.noteEnds(sight{}) }, "exact"},
		"ended twice":      {func(r *result) { r.noteEnds(sight{endless: -1, cut: 3}) }, "FAILED"},
		"cut off":          {func(r *result) { r.noteEnds(sight{endless: 3, cut: 3}) }, "exact"},
		"never ended":      {func(r *result) { r.noteEnds(sight{endless: 4, cut: 3}) }, "FAILED"},
		"a panic":          {func(r *result) { r.Panics++ }, "FAILED"},
		"an error":         {func(r *result) { r.Error = "x" }, "FAILED"},
		"young ones, gone": {func(r *result) { r.Unpromised = 5 }, "exact"},
	} {
		r := &result{}
		tc.do(r)
		if got := r.verdict(); got != tc.want {
			t.Errorf("%s: %s, not %s", name, got, tc.want)
		}
	}
}

func TestRising_CountsOverRestarts(t *testing.T) {
	var r rising
	for _, v := range []float64{0, 3, 5, 1, 1, 2, 0, 4} {
		r.see(v)
	}
	if r.sum != 5+2+4 {
		t.Errorf("the sum is %v", r.sum)
	}
}

func TestAlarms(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.log": "fine\npanic: x\n", "b.log": "msg=\"BUG: y\"\n", "c.out": "panic"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := alarms(dir); n != 2 || err != nil {
		t.Errorf("%d alarms, %v", n, err)
	}
}

// TestNewWorld_LeavesNothing: whoever interrupts a long run has every scenario that
// was to come fail at once.
func TestNewWorld_LeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if w, err := newWorld(ctx, options{starting: new(sync.Mutex)}, interval, &result{}); err == nil || w != nil {
		t.Fatal("there is a world")
	}
	if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestJobs(t *testing.T) {
	names := func(args ...string) (list []string) {
		o, err := parse(append(args, "-seed", "5"))
		if err != nil {
			t.Fatal(err)
		}
		jobs, err := o.jobs()
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			if j.seed == 5 {
				list = append(list, j.name)
			}
		}
		return list
	}
	if got := strings.Join(names("-only", "agent-kill", "-seeds", "3"), " "); got != "agent-kill" {
		t.Errorf("only one: %s", got)
	}
	ci, all := names(), names("-set", "long")
	if len(ci) == 0 || len(ci) >= len(all) {
		t.Errorf("%d scenarios in ci, %d in all", len(ci), len(all))
	}
	if o, _ := parse([]string{"-only", "nothing"}); true {
		if _, err := o.jobs(); err == nil {
			t.Error("a scenario that does not exist is no error")
		}
	}
}
