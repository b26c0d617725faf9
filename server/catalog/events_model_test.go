package catalog

import (
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// TestCatalog_EventsInAnyOrder: whatever the order of events, and however often each
// comes, the same is known and counted in the end.
func TestCatalog_EventsInAnyOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			n++
			m := newEventModel(rt, f, fmt.Sprintf("ws%d", n))
			m.deliver()
			m.compare()
		})
	})
}

// eventModel is some builds and jobs, and what there is to tell about them.
type eventModel struct {
	t         *rapid.T
	f         *fixture
	name      string
	workspace uuid.UUID
	builds    []Build
	jobs      []Job
	events    []func() error
	before    Counts
}

func newEventModel(t *rapid.T, f *fixture, name string) *eventModel {
	m := &eventModel{t: t, f: f, name: name, workspace: uuid.New()}
	done, err := f.Import(f.t.Context(), []ImportItem{{Workspace: &ImportWorkspace{ID: m.workspace, Owner: "ann", Name: name}}})
	if err != nil || done.Errors[0] != nil {
		t.Fatal(err, done.Errors)
	}
	m.before, err = f.Counts(f.t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "builds") {
		m.addBuild(int64(i) + 1)
	}
	for range rapid.IntRange(0, 2).Draw(t, "jobs") {
		m.addJob()
	}
	return m
}

// addBuild invents a build and the events about it; what is known in the end follows
// from the events alone.
func (m *eventModel) addBuild(number int64) {
	b := Build{
		ID: uuid.New(), WorkspaceID: m.workspace, Number: number, Provisioner: "model",
		Transition: rapid.SampledFrom(Transitions()).Draw(m.t, "transition"),
		Template:   Template{"t", rapid.SampledFrom([]string{"v1", "v2"}).Draw(m.t, "version")},
	}
	r := m.history(func(e run) {
		event := b
		event.Status, event.CreatedAt, event.StartedAt, event.EndedAt = e.status, e.created, e.started, e.ended
		m.events = append(m.events, func() error { _, err := m.f.PutBuild(m.f.t.Context(), event); return err })
	})
	b.Status, b.CreatedAt, b.StartedAt, b.EndedAt = r.status, r.created, r.started, r.ended
	m.builds = append(m.builds, b)
}

func (m *eventModel) addJob() {
	j := Job{ID: uuid.New(), Provisioner: "model"}
	r := m.history(func(e run) {
		event := Job{j.ID, j.Provisioner, e.status, e.created, e.started, e.ended}
		m.events = append(m.events, func() error { _, err := m.f.PutJob(m.f.t.Context(), event); return err })
	})
	j.Status, j.CreatedAt, j.StartedAt, j.EndedAt = r.status, r.created, r.started, r.ended
	m.jobs = append(m.jobs, j)
}

// history tells the events of a run, each one to three times, and returns what they
// amount to.
func (m *eventModel) history(tell func(run)) run {
	created := time.Now().Add(-2 * time.Hour).UTC().Truncate(time.Second)
	started := created.Add(time.Second)
	ended := started.Add(time.Duration(rapid.SampledFrom([]int{1, 2, 45, 4000}).Draw(m.t, "seconds")) * time.Second)
	all := []run{
		{status: StatusPending, created: created},
		{status: StatusRunning, created: created, started: started},
		{status: StatusCanceling, created: created, started: started},
		{status: rapid.SampledFrom([]Status{StatusSucceeded, StatusFailed, StatusCanceled}).Draw(m.t, "end"), created: created, ended: ended},
	}
	known := run{status: StatusPending, created: created}
	told := rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 1, 4, rapid.ID[int]).Draw(m.t, "told")
	for _, i := range told {
		e := all[i]
		if e.status.rank() >= known.status.rank() {
			known.status = e.status
		}
		known.started, known.ended = firstTime(known.started, e.started), firstTime(known.ended, e.ended)
		for range rapid.IntRange(1, 3).Draw(m.t, "times") {
			tell(e)
		}
	}
	return known
}

func (m *eventModel) deliver() {
	r := rand.New(rand.NewSource(rapid.Int64().Draw(m.t, "order")))
	r.Shuffle(len(m.events), func(i, j int) { m.events[i], m.events[j] = m.events[j], m.events[i] })
	for _, deliver := range m.events {
		if err := deliver(); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *eventModel) compare() {
	ctx := m.f.t.Context()
	got, err := m.f.Builds(ctx, m.workspace)
	if err != nil {
		m.t.Fatal(err)
	}
	slices.Reverse(got)
	if diff := cmp.Diff(m.builds, got); diff != "" {
		m.t.Errorf("builds (-want +got):\n%s", diff)
	}
	for _, want := range m.jobs {
		if got, err := m.f.Job(ctx, want.ID); err != nil || !cmp.Equal(want, got) {
			m.t.Errorf("job: %v\n%s", err, cmp.Diff(want, got))
		}
	}
	m.compareTotals()
	m.compareCounts()
}

func (m *eventModel) compareTotals() {
	want, got := map[string]int64{}, map[string]int64{}
	for _, b := range m.builds {
		if b.Status.Ended() {
			want[fmt.Sprint(b.Transition, b.Template.Version, b.Status.Result())]++
		}
	}
	err := m.f.BuildTotals(m.f.t.Context(), time.Now(), func(b BuildTotal) error {
		if b.Workspace == m.name && b.Value > 0 {
			got[fmt.Sprint(b.Transition, b.Template.Version, b.Result)] = b.Value
		}
		return nil
	})
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		m.t.Errorf("totals (-want +got): %v\n%s", err, diff)
	}
}

// compareCounts compares what the deployment's counts grew by.
func (m *eventModel) compareCounts() {
	after, err := m.f.Counts(m.f.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	want, got := map[string]float64{}, map[string]float64{}
	timing := func(s Status, started, ended time.Time) {
		if r := (run{status: s, started: started, ended: ended}); s.Ended() && !started.IsZero() {
			d, _ := r.duration()
			want["seconds "+s.Result()] += d.Seconds()
			want["durations "+s.Result()]++
		}
	}
	for _, b := range m.builds {
		if b.Status.Ended() {
			want[string(b.Transition)+b.Status.Result()]++
		}
		timing(b.Status, b.StartedAt, b.EndedAt)
	}
	for _, j := range m.jobs {
		timing(j.Status, j.StartedAt, j.EndedAt)
	}
	add := func(c Counts, sign float64) {
		for _, b := range c.Builds {
			got[string(b.Transition)+b.Result] += sign * b.Value
		}
		for _, t := range c.Timings {
			got["seconds "+t.Result] += sign * t.Seconds
			for _, v := range t.Buckets {
				got["durations "+t.Result] += sign * v
			}
		}
	}
	add(after, 1)
	add(m.before, -1)
	for k, v := range got {
		if v == 0 {
			delete(got, k)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.t.Errorf("counts grew (-want +got):\n%s", diff)
	}
}
