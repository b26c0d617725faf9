package agentapps

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/wire/agentpb"
)

func TestSeconds(t *testing.T) {
	for d, want := range map[*durationpb.Duration]time.Duration{
		nil:                                     0,
		{Nanos: 10}:                             10 * time.Second,
		{Nanos: -10}:                            0,
		{Seconds: 10}:                           1<<63 - 1, // "a correct-looking duration"
		{Seconds: 1 << 62}:                      1<<63 - 1,
		{Seconds: -1 << 62}:                     0,
		durationpb.New(86400 * time.Nanosecond): 24 * time.Hour,
	} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %v, want %v", d, got, want)
		}
	}
}

func shell(t *testing.T) Commands {
	t.Helper()
	b, err := agentexec.New(agentexec.Options{Home: t.TempDir(), Shell: "/bin/sh"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCollect(t *testing.T) {
	tests := []struct {
		name, script string
		timeout      time.Duration
		want         result
	}{
		{"output as it is", "printf 'a\\n b '; printf c >&2; cat", time.Minute, result{value: "a\n b c"}},
		{"a failure keeps the value", "echo partial; exit 4", time.Minute, result{value: "partial\n", error: "run cmd: exit status 4"}},
		{"too slow", "echo early; sleep 60 & sleep 60", 2 * time.Second, result{value: "early\n", error: "run cmd: timed out after 2s: signal: killed"}},
		{"no interpreter", "#!\n", time.Minute, result{error: "create cmd: read the interpreter line: no interpreter after #!"}},
		{"no such interpreter", "#!/no/where\n", time.Minute, result{error: "start cmd: fork/exec /no/where: no such file or directory"}},
		{"no text", `printf 'a\377b'`, time.Minute, result{value: "a\ufffdb"}},
		{"much output", `head -c 20000 /dev/zero | tr '\0' x`, time.Minute,
			result{value: strings.Repeat("x", 10240), error: "output of 20000 bytes was cut to 10240"}},
		{"cut inside a rune", `printf x; i=0; while [ $i -lt 6000 ]; do printf '\303\251'; i=$((i+1)); done`, time.Minute,
			result{value: "x" + strings.Repeat("é", 5119), error: "output of 12001 bytes was cut to 10240"}},
		{"output that stays open", "echo x; sleep 30 &", time.Minute, result{value: "x\n", error: "run cmd: output stayed open after the end"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := collect(context.Background(), shell(t), tt.script, tt.timeout)
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(result{})); d != "" {
				t.Errorf("result (-want +got):\n%s", d)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\xffb", 3)
	f.Fuzz(func(t *testing.T, s string, n int) {
		got := clean(strings.Repeat(s, max(0, min(n, 20_000))))
		if !utf8.ValidString(got) {
			t.Fatalf("%q", got)
		}
	})
}

func describe(key, script string, interval, timeout int32) *agentpb.WorkspaceAgentMetadata_Description {
	return &agentpb.WorkspaceAgentMetadata_Description{
		Key: key, Script: script,
		Interval: &durationpb.Duration{Nanos: interval}, Timeout: &durationpb.Duration{Nanos: timeout},
	}
}

// TestMetadata_AsRecorded collects the recorded session's items for real and
// compares the first report.
func TestMetadata_AsRecorded(t *testing.T) {
	m, err := NewMetadata(MetadataOptions{Commands: shell(t)})
	if err != nil {
		t.Fatal(err)
	}
	m.Update([]*agentpb.WorkspaceAgentMetadata_Description{
		describe("once", "printf 'café ✓'", 0, 0),
		// Neither a second time nor a time-out may come before all four are told.
		describe("broken", "echo partial; exit 4", 3600, 60),
		describe("load", "echo 0.25", 3600, 60),
		describe("date", "echo 1795335680", 3600, 60),
	})
	s := &server{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, s) }()
	deadline := time.Now().Add(time.Minute)
	count := func() (n int) {
		for _, r := range s.metadataReports() {
			n += len(r.Metadata)
		}
		return n
	}
	for count() < 4 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	got := &agentpb.BatchUpdateMetadataRequest{}
	for _, r := range s.metadataReports() {
		got.Metadata = append(got.Metadata, r.Metadata...)
	}
	want := recorded(t, "016-BatchUpdateMetadata-request", &agentpb.BatchUpdateMetadataRequest{})
	if d := diff(want, got,
		protocmp.IgnoreFields(&agentpb.WorkspaceAgentMetadata_Result{}, "collected_at", "age"),
		protocmp.SortRepeated(func(a, b *agentpb.Metadata) bool { return a.GetKey() < b.GetKey() }),
	); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
	for _, md := range got.Metadata {
		if at := md.GetResult().GetCollectedAt().AsTime(); time.Since(at) > time.Minute {
			t.Errorf("%s was collected at %v", md.Key, at)
		}
	}
}

// script is a command builder whose collections are errors that are told apart
// by a number, and may be held.
type script struct {
	mu   sync.Mutex
	runs map[string]int
	hold map[string]chan struct{}
}

func (s *script) Command(ctx context.Context, r agentexec.Request) (*exec.Cmd, error) {
	s.mu.Lock()
	if s.runs == nil {
		s.runs = make(map[string]int)
	}
	s.runs[r.Command]++
	n, hold := s.runs[r.Command], s.hold[r.Command]
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("%s %d", r.Command, n)
}

func (s *script) count(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runs[name]
}

func TestMetadata_Schedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &script{hold: map[string]chan struct{}{"slow": make(chan struct{})}}
		m, err := NewMetadata(MetadataOptions{Commands: c})
		if err != nil {
			t.Fatal(err)
		}
		items := []*agentpb.WorkspaceAgentMetadata_Description{
			describe("once", "once", 0, 0), describe("five", "five", 5, 1), describe("slow", "slow", 1, 60),
			describe("five", "again", 1, 1), // the key is taken
		}
		m.Update(items)
		s := &server{}
		session := func(length time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), length)
			defer cancel()
			return m.Run(ctx, s)
		}
		if err := session(11500 * time.Millisecond); err != nil {
			t.Error(err)
		}
		for name, want := range map[string]int{"once": 1, "five": 3, "slow": 1, "again": 0} {
			if got := c.count(name); got != want {
				t.Errorf("%s was collected %d times, want %d", name, got, want)
			}
		}
		var told []string
		for _, r := range s.metadataReports() {
			for _, md := range r.Metadata {
				told = append(told, md.Result.Error)
			}
		}
		slices.Sort(told) // the first two may be told apart, in any order
		want := []string{"create cmd: five 1", "create cmd: five 2", "create cmd: five 3", "create cmd: once 1"}
		if d := cmp.Diff(want, told); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}

		// A new session with the same manifest goes on where the last one ended.
		m.Update(items)
		if err := session(2500 * time.Millisecond); err != nil {
			t.Error(err)
		}
		if c.count("once") != 1 || c.count("five") != 3 || c.count("slow") != 2 {
			t.Errorf("collections %v", c.runs)
		}
		// A key that was gone is new, and so is one that means something else.
		m.Update(items[1:2])
		m.Update([]*agentpb.WorkspaceAgentMetadata_Description{items[0], describe("five", "six", 5, 1)})
		if err := session(1500 * time.Millisecond); err != nil {
			t.Error(err)
		}
		if c.count("once") != 2 || c.count("six") != 1 {
			t.Errorf("collections %v", c.runs)
		}
	})
}

func TestMetadata_FailedReportIsToldInTheNextSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMetadata(MetadataOptions{Commands: &script{}})
		if err != nil {
			t.Fatal(err)
		}
		m.Update([]*agentpb.WorkspaceAgentMetadata_Description{describe("once", "once", 0, 0)})
		s := &server{err: errTest}
		if err := m.Run(t.Context(), s); !errors.Is(err, errTest) {
			t.Errorf("run = %v", err)
		}
		s.fail(nil)
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := m.Run(ctx, s); err != nil {
			t.Error(err)
		}
		r := s.metadataReports()
		if len(r) != 2 || r[1].Metadata[0].Result.Age < 60 || r[1].Metadata[0].Result.Error != "create cmd: once 1" {
			t.Errorf("reports %v", r)
		}
	})
}

func TestMetadata_OneRequestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := NewMetadata(MetadataOptions{Commands: &script{}})
		if err != nil {
			t.Fatal(err)
		}
		m.Update([]*agentpb.WorkspaceAgentMetadata_Description{describe("each", "each", 1, 1)})
		s := &server{hold: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx, s) }()
		time.Sleep(10500 * time.Millisecond)
		if n := len(s.metadataReports()); n != 1 {
			t.Errorf("%d requests in flight", n)
		}
		close(s.hold)
		time.Sleep(time.Second)
		r := s.metadataReports()
		if len(r) != 2 || r[1].Metadata[0].Result.Error == r[0].Metadata[0].Result.Error {
			t.Errorf("reports %v", r)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		// A server that never answers ends the session after the timeout.
		s.hold = make(chan struct{})
		began := time.Now()
		if err := m.Run(t.Context(), s); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 35*time.Second {
			t.Errorf("run = %v after %s", err, time.Since(began))
		}
	})
}

func TestMetadata_BoundOfRunningCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &script{hold: make(map[string]chan struct{})}
		var items []*agentpb.WorkspaceAgentMetadata_Description
		for i := range 5 {
			name := fmt.Sprint("slow", i)
			c.hold[name] = make(chan struct{})
			items = append(items, describe(name, name, 0, 600))
		}
		m, err := NewMetadata(MetadataOptions{Commands: c, MaxRunning: 2})
		if err != nil {
			t.Fatal(err)
		}
		m.Update(items)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx, &server{}) }()
		time.Sleep(5500 * time.Millisecond)
		if c.count("slow1") != 1 || c.count("slow2") != 0 {
			t.Errorf("collections %v, want the first two", c.runs)
		}
		close(c.hold["slow0"])
		time.Sleep(1500 * time.Millisecond)
		if c.count("slow2") != 1 || c.count("slow3") != 0 {
			t.Errorf("collections %v, want the first three", c.runs)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
