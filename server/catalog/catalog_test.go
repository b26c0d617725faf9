package catalog

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/worktally/worktally/internal/pgtest"
	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/agentpb"
)

// cluster is the PostgreSQL server of this test binary.
var cluster pgtest.Cluster

func TestMain(m *testing.M) { cluster.Main(m) }

// fixture is a catalog with an administrator, a user, and the user's workspace.
type fixture struct {
	*Catalog
	t           *testing.T
	admin, user User
	adminToken  string
	userToken   string
	ws          Workspace
	agent       uuid.UUID
	agentToken  string
}

// onBoth runs a test on both databases.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) { test(t, newFixture(t, dsn)) })
}

const smallSpec = `
name: small
template: {name: go, version: v1}
scripts:
  - {name: a, on: start, script: echo}
apps:
  - {slug: web, healthcheck: {url: "http://127.0.0.1:1"}}
  - {slug: plain, display_name: A plain one}
metadata:
  - {key: load, script: uptime}
  - {key: disk, script: df}
`

func parse(t *testing.T, text string) Spec {
	t.Helper()
	s, err := ParseSpec("test", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newFixture(t *testing.T, dsn string) *fixture {
	t.Helper()
	ctx := t.Context()
	db, err := sqldb.Open(ctx, dsn)
	must(t, err)
	t.Cleanup(func() { db.Close() })
	c, err := Open(ctx, db, Options{})
	must(t, err)
	f := &fixture{Catalog: c, t: t}
	var created bool
	f.admin, f.adminToken, created, err = c.EnsureFirstUser(ctx, "admin")
	must(t, err)
	if !created {
		t.Fatal("no first user")
	}
	f.user, f.userToken, err = c.CreateUser(ctx, "ann", false)
	must(t, err)
	applied, err := c.Apply(ctx, f.user, parse(t, smallSpec))
	must(t, err)
	f.ws, f.agent, f.agentToken = applied.Workspace, applied.Workspace.Agents[0].ID, applied.Tokens["main"]
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("err = %v, want %v", err, want)
	}
}

func (f *fixture) state() AgentState {
	f.t.Helper()
	who, err := f.AgentByID(f.t.Context(), f.agent)
	must(f.t, err)
	return who.Agent.State
}

func TestCatalog_Users(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		if _, token, created, err := f.EnsureFirstUser(ctx, "other"); err != nil || created || token != "" {
			t.Errorf("a second first user: %v %q %v", created, token, err)
		}
		u, err := f.UserByToken(ctx, f.userToken)
		must(t, err)
		if diff := cmp.Diff(f.user, u); diff != "" {
			t.Errorf("user by token (-want +got):\n%s", diff)
		}
		_, err = f.UserByToken(ctx, "")
		wantErr(t, err, ErrNotFound)
		_, err = f.UserByToken(ctx, f.userToken+"x")
		wantErr(t, err, ErrNotFound)
		_, _, err = f.CreateUser(ctx, "ann", false)
		wantErr(t, err, ErrExists)
		for _, bad := range []string{"", "me", "a b", "a/b", strings.Repeat("x", 65), "x\x00"} {
			_, _, err = f.CreateUser(ctx, bad, false)
			wantErr(t, err, ErrInvalid)
		}
		fresh, err := f.RotateUserToken(ctx, "ann")
		must(t, err)
		_, err = f.UserByToken(ctx, f.userToken)
		wantErr(t, err, ErrNotFound)
		_, err = f.UserByToken(ctx, fresh)
		must(t, err)
		_, err = f.RotateUserToken(ctx, "nobody")
		wantErr(t, err, ErrNotFound)

		wantErr(t, f.DeleteUser(ctx, "ann"), ErrInUse)
		_, err = f.DeleteWorkspace(ctx, f.ws.ID)
		must(t, err)
		must(t, f.DeleteUser(ctx, "ann"))
		_, err = f.UserByToken(ctx, fresh)
		wantErr(t, err, ErrNotFound)
		wantErr(t, f.DeleteUser(ctx, "ann"), ErrNotFound)
		wantErr(t, f.DeleteUser(ctx, "admin"), ErrInUse)
		users, err := f.Users(ctx)
		must(t, err)
		if diff := cmp.Diff([]User{f.admin}, users); diff != "" {
			t.Errorf("users (-want +got):\n%s", diff)
		}
	})
}

func TestCatalog_TokensAreStoredHashed(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for _, query := range []string{`SELECT token_hash FROM catalog_users`, `SELECT token_hash FROM catalog_agents`} {
			rows, err := f.db.Reader().QueryContext(t.Context(), query)
			must(t, err)
			stored, err := collect(rows, func(r rowScanner) (s string, err error) { return s, r.Scan(&s) })
			must(t, err)
			for _, s := range stored {
				if len(s) != 64 || s == f.userToken || s == f.agentToken {
					t.Errorf("stored %q", s)
				}
			}
		}
	})
}

func TestCatalog_AgentByToken(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		who, err := f.AgentByToken(t.Context(), f.agentToken)
		must(t, err)
		want := Identity{Agent: f.ws.Agents[0], Workspace: f.ws, Owner: f.user}
		want.Workspace.Agents = nil
		if diff := cmp.Diff(want, who); diff != "" {
			t.Errorf("identity (-want +got):\n%s", diff)
		}
		if _, err = f.AgentByToken(t.Context(), strings.ToUpper(f.agentToken)); err != nil {
			t.Errorf("another spelling of the UUID: %v", err)
		}
		for _, bad := range []string{"", "x", uuid.NewString(), f.userToken} {
			_, err = f.AgentByToken(t.Context(), bad)
			wantErr(t, err, ErrNotFound)
		}
		_, err = f.AgentByID(t.Context(), uuid.New())
		wantErr(t, err, ErrNotFound)
	})
}

func TestCatalog_ReapplyKeepsIdentity(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		must(t, f.SetAppHealth(ctx, f.agent, []AppHealth{{f.ws.Agents[0].Spec.Apps[0].ID, agentpb.AppHealth_HEALTHY}}))
		must(t, f.SetMetadata(ctx, f.agent, []MetadataValue{{Key: "load", Value: "1"}, {Key: "disk", Value: "2"}}))
		again, err := f.Apply(ctx, f.user, parse(t, `
name: small
template: {name: rust}
agents:
  - name: main
    scripts:
      - {name: b, on: stop, script: echo}
      - {name: a, on: start, script: echo changed}
    apps:
      - {slug: web, healthcheck: {url: "http://127.0.0.1:2"}}
    metadata:
      - {key: load, script: uptime}
      - {key: new, script: df}
  - name: second
`))
		must(t, err)
		if again.Created || again.PreviousName != "" || len(again.Removed) != 0 {
			t.Errorf("applied: %+v", again)
		}
		if len(again.Tokens) != 1 || again.Tokens["second"] == "" {
			t.Errorf("tokens %v, want one for the new agent only", again.Tokens)
		}
		before, after := f.ws.Agents[0], again.Workspace.Agents[0]
		if again.Workspace.ID != f.ws.ID || after.ID != before.ID || after.Spec.Scripts[1].ID != before.Spec.Scripts[0].ID ||
			after.Spec.Scripts[1].LogSourceID != before.Spec.Scripts[0].LogSourceID || after.Spec.Apps[0].ID != before.Spec.Apps[0].ID {
			t.Error("ids changed")
		}
		if after.Spec.Scripts[0].ID == after.Spec.Scripts[1].ID || after.Spec.Scripts[1].Text != "echo changed" || again.Workspace.Template.Name != "rust" {
			t.Errorf("the new spec is not there: %+v", after.Spec)
		}
		_, err = f.AgentByToken(ctx, f.agentToken)
		must(t, err)
		health, err := f.AppHealths(ctx, f.agent)
		must(t, err)
		if diff := cmp.Diff([]AppHealth{{after.Spec.Apps[0].ID, agentpb.AppHealth_HEALTHY}}, health); diff != "" {
			t.Errorf("health (-want +got):\n%s", diff)
		}
		values, err := f.MetadataValues(ctx, f.agent)
		must(t, err)
		if len(values) != 2 || values[0].Value != "1" || values[1].Key != "new" || !values[1].CollectedAt.IsZero() {
			t.Errorf("metadata %+v", values)
		}
		// The second agent goes again, and its token with it.
		third, err := f.Apply(ctx, f.user, parse(t, smallSpec))
		must(t, err)
		if len(third.Removed) != 1 || third.Removed[0].Name != "second" || len(third.Tokens) != 0 {
			t.Errorf("applied: %+v", third)
		}
		_, err = f.AgentByToken(ctx, again.Tokens["second"])
		wantErr(t, err, ErrNotFound)
	})
}

func TestCatalog_Ownership(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		other, _, err := f.CreateUser(ctx, "bob", false)
		must(t, err)
		spec := parse(t, smallSpec)
		mine, err := f.Apply(ctx, other, spec) // same name, another owner
		must(t, err)
		if !mine.Created || mine.Workspace.ID == f.ws.ID || mine.Workspace.OwnerName != "bob" {
			t.Errorf("applied: %+v", mine)
		}
		spec.Owner = "ann"
		_, err = f.Apply(ctx, other, spec)
		wantErr(t, err, ErrForbidden)
		byAdmin, err := f.Apply(ctx, f.admin, spec)
		must(t, err)
		if byAdmin.Created || byAdmin.Workspace.ID != f.ws.ID {
			t.Error("the administrator did not reach the owner's workspace")
		}
		spec.Owner = "nobody"
		_, err = f.Apply(ctx, f.admin, spec)
		wantErr(t, err, ErrNotFound)
		spec.Owner = ""
		_, err = f.ApplyTo(ctx, other, f.ws.ID, spec)
		wantErr(t, err, ErrForbidden)
		if f.user.MayUse(mine.Workspace) || !f.admin.MayUse(mine.Workspace) || !other.MayUse(mine.Workspace) {
			t.Error("MayUse is wrong")
		}
		for id, want := range map[uuid.UUID]int{uuid.Nil: 2, other.ID: 1, f.admin.ID: 0} {
			list, err := f.Workspaces(ctx, id)
			must(t, err)
			if len(list) != want {
				t.Errorf("%d workspaces of %s, want %d", len(list), id, want)
			}
		}
	})
}

func TestCatalog_RenameAndDelete(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		spec := parse(t, smallSpec)
		spec.Name = "renamed"
		out, err := f.ApplyTo(ctx, f.user, f.ws.ID, spec)
		must(t, err)
		if out.PreviousName != "small" || out.Workspace.Name != "renamed" || out.Workspace.Agents[0].ID != f.agent {
			t.Errorf("applied: %+v", out)
		}
		_, err = f.WorkspaceByName(ctx, "ann", "small")
		wantErr(t, err, ErrNotFound)
		_, err = f.Apply(ctx, f.user, parse(t, smallSpec))
		must(t, err)
		_, err = f.ApplyTo(ctx, f.user, f.ws.ID, parse(t, smallSpec))
		wantErr(t, err, ErrExists)
		_, err = f.ApplyTo(ctx, f.user, uuid.New(), spec)
		wantErr(t, err, ErrNotFound)

		must(t, f.AddConnection(ctx, f.agent, Connection{ID: uuid.New(), At: time.Now()}))
		gone, err := f.DeleteWorkspace(ctx, f.ws.ID)
		must(t, err)
		if gone.Name != "renamed" || len(gone.Agents) != 1 {
			t.Errorf("deleted: %+v", gone)
		}
		_, err = f.AgentByToken(ctx, f.agentToken)
		wantErr(t, err, ErrNotFound)
		_, err = f.Workspace(ctx, f.ws.ID)
		wantErr(t, err, ErrNotFound)
		_, err = f.DeleteWorkspace(ctx, f.ws.ID)
		wantErr(t, err, ErrNotFound)
		again, err := f.Apply(ctx, f.user, spec) // the name is free again
		must(t, err)
		if again.Workspace.ID == f.ws.ID {
			t.Error("a new workspace has the id of a deleted one")
		}
		for want, before := range []time.Duration{-time.Hour, time.Hour} {
			n, err := f.Purge(ctx, time.Now().Add(before))
			must(t, err)
			if n != int64(want) {
				t.Errorf("purged %d, want %d", n, want)
			}
		}
	})
}

func TestCatalog_RotateAgentToken(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		id, token, err := f.RotateAgentToken(t.Context(), f.ws.ID, "main")
		must(t, err)
		if id != f.agent {
			t.Errorf("agent %s, want %s", id, f.agent)
		}
		_, err = f.AgentByToken(t.Context(), f.agentToken)
		wantErr(t, err, ErrNotFound)
		_, err = f.AgentByToken(t.Context(), token)
		must(t, err)
		_, _, err = f.RotateAgentToken(t.Context(), f.ws.ID, "nobody")
		wantErr(t, err, ErrNotFound)
	})
}

func TestCatalog_Presence(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		t0 := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
		check := func(first, last, gone time.Time) {
			t.Helper()
			s := f.state()
			if !s.FirstConnectedAt.Equal(first) || !s.LastConnectedAt.Equal(last) || !s.DisconnectedAt.Equal(gone) {
				t.Errorf("first %v, last %v, disconnected %v", s.FirstConnectedAt, s.LastConnectedAt, s.DisconnectedAt)
			}
		}
		check(time.Time{}, time.Time{}, time.Time{})
		must(t, f.SetConnected(ctx, f.agent, "2.6", at(0)))
		check(at(0), at(0), time.Time{})
		many := []uuid.UUID{f.agent}
		for range 2 * touchChunk {
			many = append(many, uuid.New())
		}
		must(t, f.Heartbeat(ctx, many, at(15)))
		check(at(0), at(15), time.Time{})
		must(t, f.SetDisconnected(ctx, many, at(20)))
		must(t, f.SetDisconnected(ctx, many, at(30))) // known already
		check(at(0), at(15), at(20))
		must(t, f.SetConnected(ctx, f.agent, "2.13\x00", at(40)))
		check(at(0), at(40), time.Time{})
		if got := f.state().APIVersion; got != "2.13\ufffd" {
			t.Errorf("version %q", got)
		}
		must(t, f.Heartbeat(ctx, nil, at(50)))
		wantErr(t, f.SetConnected(ctx, uuid.New(), "2.6", at(0)), ErrNotFound)
	})
}

func TestCatalog_StartupAndLifecycle(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		if got := f.state().Lifecycle; got != agentpb.Lifecycle_CREATED {
			t.Errorf("first state %v", got)
		}
		must(t, f.SetStartup(ctx, f.agent, "v2.1.0\xff", "/home/\x00x", []agentpb.Startup_Subsystem{2, 1, 2}))
		s := f.state()
		if s.Version != "v2.1.0\ufffd" || s.ExpandedDirectory != "/home/\ufffdx" || !cmp.Equal(s.Subsystems, []agentpb.Startup_Subsystem{1, 2}) {
			t.Errorf("state %+v", s)
		}
		t0 := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		must(t, f.SetLifecycle(ctx, f.agent, agentpb.Lifecycle_READY, t0))
		s = f.state()
		if !s.StartedAt.Equal(t0) || !s.ReadyAt.Equal(t0) {
			t.Errorf("ready first: %+v", s)
		}
		must(t, f.SetLifecycle(ctx, f.agent, agentpb.Lifecycle_STARTING, t0.Add(time.Second)))
		s = f.state()
		if !s.StartedAt.Equal(t0.Add(time.Second)) || !s.ReadyAt.IsZero() || s.Lifecycle != agentpb.Lifecycle_STARTING {
			t.Errorf("starting: %+v", s)
		}
		must(t, f.SetLifecycle(ctx, f.agent, agentpb.Lifecycle_START_ERROR, t0.Add(2*time.Second)))
		must(t, f.SetLifecycle(ctx, f.agent, agentpb.Lifecycle_OFF, time.Time{}))
		s = f.state()
		if !s.StartedAt.Equal(t0.Add(time.Second)) || !s.ReadyAt.Equal(t0.Add(2*time.Second)) || time.Since(s.LifecycleChangedAt) > time.Minute {
			t.Errorf("off: %+v", s)
		}
		wantErr(t, f.SetLifecycle(ctx, f.agent, 0, t0), ErrInvalid)
		wantErr(t, f.SetLifecycle(ctx, f.agent, 99, t0), ErrInvalid)
		wantErr(t, f.SetLifecycle(ctx, uuid.New(), agentpb.Lifecycle_READY, t0), ErrNotFound)
	})
}

func TestCatalog_AppHealth(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		apps := f.ws.Agents[0].Spec.Apps
		web, plain := apps[0].ID, apps[1].ID
		check := func(want agentpb.AppHealth) {
			t.Helper()
			got := map[uuid.UUID]agentpb.AppHealth{}
			list, err := f.AppHealths(ctx, f.agent)
			must(t, err)
			for _, h := range list {
				got[h.AppID] = h.Health
			}
			if diff := cmp.Diff(map[uuid.UUID]agentpb.AppHealth{web: want, plain: agentpb.AppHealth_DISABLED}, got); diff != "" {
				t.Errorf("health (-want +got):\n%s", diff)
			}
		}
		check(agentpb.AppHealth_INITIALIZING)
		must(t, f.SetAppHealth(ctx, f.agent, []AppHealth{{web, agentpb.AppHealth_HEALTHY}}))
		must(t, f.SetAppHealth(ctx, f.agent, nil))
		check(agentpb.AppHealth_HEALTHY)
		for _, c := range []struct {
			second AppHealth
			want   error
		}{
			{AppHealth{uuid.New(), agentpb.AppHealth_HEALTHY}, ErrNotFound},
			{AppHealth{plain, agentpb.AppHealth_HEALTHY}, ErrNotFound},
			{AppHealth{web, 0}, ErrInvalid},
			{AppHealth{web, 77}, ErrInvalid},
		} {
			wantErr(t, f.SetAppHealth(ctx, f.agent, []AppHealth{{web, agentpb.AppHealth_UNHEALTHY}, c.second}), c.want)
		}
		check(agentpb.AppHealth_HEALTHY) // all or nothing
		var got []AgentStatus
		must(t, f.AgentStatuses(ctx, func(s AgentStatus) error { got = append(got, s); return nil }))
		if len(got) != 1 || got[0].OwnerName != "ann" || got[0].WorkspaceName != "small" || got[0].Template.Name != "go" ||
			got[0].CreatedAt.IsZero() ||
			!cmp.Equal(got[0].Apps, []AppStatus{{"A plain one", agentpb.AppHealth_DISABLED}, {"web", agentpb.AppHealth_HEALTHY}}) {
			t.Errorf("statuses %+v", got)
		}
	})
}

func TestCatalog_MetadataIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		long := strings.Repeat("é", maxMetadataValue)
		must(t, f.SetMetadata(ctx, f.agent, []MetadataValue{
			{Key: "load", Value: long}, {Key: "disk", Value: "a\x00b\xff", Error: long}, {Key: "unknown", Value: "x"},
		}))
		values, err := f.MetadataValues(ctx, f.agent)
		must(t, err)
		if len(values) != 2 {
			t.Fatalf("%d values", len(values))
		}
		disk, load := values[0], values[1]
		if len(load.Value) != maxMetadataValue || !strings.Contains(load.Error, "cut to 2048") {
			t.Errorf("long value: %d bytes, error %q", len(load.Value), load.Error)
		}
		if disk.Value != "a\ufffdb\ufffd" || len(disk.Error) > 100 || disk.CollectedAt.IsZero() {
			t.Errorf("long error: %+v", disk)
		}
		wantErr(t, f.SetMetadata(ctx, f.agent, []MetadataValue{
			{Key: "load", Value: "stored"}, {Key: strings.Repeat("k", maxMetadataKeys)}, {Key: "disk", Value: "dropped"},
		}), ErrInvalid)
		values, err = f.MetadataValues(ctx, f.agent)
		must(t, err)
		if values[1].Value != "stored" || values[0].Value == "dropped" {
			t.Errorf("values %+v", values)
		}
	})
}

func TestCatalog_LogsAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		source := uuid.New()
		over, err := f.AppendLogs(ctx, f.agent, []LogLine{
			{SourceID: source, Level: agentpb.Log_ERROR, Output: "one\x00\xff"}, {SourceID: source, Level: 99, Output: "two"},
		})
		must(t, err)
		if over {
			t.Error("two lines overflow")
		}
		big := LogLine{SourceID: source, Output: strings.Repeat("x", maxLogBytes/4)}
		over, err = f.AppendLogs(ctx, f.agent, []LogLine{big, big, big, big, {Output: "after"}})
		must(t, err)
		if !over || !f.state().LogsOverflowed {
			t.Error("no overflow after 1 MiB")
		}
		over, err = f.AppendLogs(ctx, f.agent, []LogLine{{Output: "small"}})
		must(t, err)
		if !over {
			t.Error("the overflow was forgotten")
		}
		lines, err := f.Logs(ctx, f.agent, 0, 100)
		must(t, err)
		if len(lines) != 5 || lines[0].Output != "one\ufffd\ufffd" || lines[0].Level != agentpb.Log_ERROR ||
			lines[1].Level != agentpb.Log_INFO || lines[1].SourceID != source || time.Since(lines[1].CreatedAt) > time.Minute {
			t.Errorf("%d lines: %+v", len(lines), lines[:2])
		}
		lines, err = f.Logs(ctx, f.agent, lines[1].Seq, 1)
		must(t, err)
		if len(lines) != 1 || len(lines[0].Output) != maxLogBytes/4 {
			t.Errorf("the page after the second line has %d lines", len(lines))
		}
		_, err = f.AppendLogs(ctx, uuid.New(), nil)
		wantErr(t, err, ErrNotFound)
	})
}

func TestCatalog_StartMakesRoomForLogs(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		line := func(bytes int) (over bool) {
			t.Helper()
			over, err := f.AppendLogs(ctx, f.agent, []LogLine{{Output: strings.Repeat("x", bytes)}})
			must(t, err)
			return over
		}
		lines := func() []LogLine {
			t.Helper()
			lines, err := f.Logs(ctx, f.agent, 0, 100)
			must(t, err)
			return lines
		}
		start := func() { must(t, f.SetLifecycle(ctx, f.agent, agentpb.Lifecycle_STARTING, time.Now())) }

		line(maxLogBytes / 4)
		start()
		if len(lines()) != 1 {
			t.Error("a start took lines although there was room")
		}
		line(maxLogBytes / 2)
		if !line(maxLogBytes/2) || len(lines()) != 2 {
			t.Fatal("no overflow")
		}
		last := lines()[1].Seq
		must(t, f.SetLifecycle(ctx, f.agent, agentpb.Lifecycle_READY, time.Now()))
		if !line(1) {
			t.Error("another state made room")
		}
		start()
		if line(1) || f.state().LogsOverflowed {
			t.Error("an agent that starts has no room")
		}
		if got := lines(); len(got) != 1 || got[0].Seq <= last {
			t.Errorf("%d lines after the start, the first has number %d", len(got), got[0].Seq)
		}
	})
}

func TestCatalog_EventsAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		t0 := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		timing := ScriptTiming{ScriptID: uuid.New(), Start: t0, End: t0.Add(time.Second), ExitCode: -1,
			Stage: agentpb.Timing_CRON, Status: agentpb.Timing_TIMED_OUT}
		connection := Connection{ID: uuid.New(), Action: agentpb.Connection_DISCONNECT, Type: 0, AppName: "zed", IP: "fd7a::1",
			StatusCode: 255, Reason: "gone\x00", At: t0}
		for i := range maxEvents + 5 {
			timing.ExitCode, connection.StatusCode = int32(i), int32(i)
			must(t, f.AddScriptTiming(ctx, f.agent, timing))
			must(t, f.AddConnection(ctx, f.agent, connection))
		}
		timings, err := f.ScriptTimings(ctx, f.agent)
		must(t, err)
		connections, err := f.Connections(ctx, f.agent)
		must(t, err)
		if len(timings) != maxEvents || timings[0].ExitCode != 5 || len(connections) != maxEvents || connections[0].StatusCode != 5 {
			t.Fatalf("%d timings, %d connections", len(timings), len(connections))
		}
		connection.Reason = "gone\ufffd"
		if diff := cmp.Diff(timing, timings[maxEvents-1]); diff != "" {
			t.Errorf("timing (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(connection, connections[maxEvents-1]); diff != "" {
			t.Errorf("connection (-want +got):\n%s", diff)
		}
		timing.End = t0.Add(-time.Second)
		wantErr(t, f.AddScriptTiming(ctx, f.agent, timing), ErrInvalid)
		wantErr(t, f.AddScriptTiming(ctx, f.agent, ScriptTiming{}), ErrInvalid)
		wantErr(t, f.AddConnection(ctx, uuid.New(), connection), ErrNotFound)
	})
}

func TestCatalog_ResourcesUsage(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		none, err := f.ResourcesUsage(t.Context(), f.agent)
		must(t, err)
		if none != nil {
			t.Errorf("usage %v before any", none)
		}
		want := &agentpb.PushResourcesMonitoringUsageRequest_Datapoint{
			Memory: &agentpb.PushResourcesMonitoringUsageRequest_Datapoint_MemoryUsage{Used: 1, Total: 2},
		}
		must(t, f.SetResourcesUsage(t.Context(), f.agent, want))
		got, err := f.ResourcesUsage(t.Context(), f.agent)
		must(t, err)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("usage (-want +got):\n%s", diff)
		}
	})
}

func TestCatalog_ConcurrentWriters(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				for range 20 {
					_, err := f.AppendLogs(ctx, f.agent, []LogLine{{Output: "line"}})
					err2 := f.AddConnection(ctx, f.agent, Connection{ID: uuid.New(), At: time.Now()})
					_, err3 := f.Apply(ctx, f.user, parse(t, smallSpec))
					if err := errors.Join(err, err2, err3, f.Heartbeat(ctx, []uuid.UUID{f.agent}, time.Now())); err != nil {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		lines, err := f.Logs(ctx, f.agent, 0, 1000)
		must(t, err)
		if len(lines) != 160 || lines[159].Seq != 160 {
			t.Errorf("%d lines, want 160", len(lines))
		}
	})
}
