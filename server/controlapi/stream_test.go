package controlapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// watcher reads server-sent events as strictly as a client does.
type watcher struct {
	t     *testing.T
	lines *bufio.Scanner
}

func (f *fixture) watch(base, token string, id uuid.UUID) *watcher {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), "GET", base+"/api/v2/workspaces/"+id.String()+"/watch", nil)
	must(f.t, err)
	req.Header.Set(wire.TokenHeader, token)
	resp, err := http.DefaultClient.Do(req)
	must(f.t, err)
	f.t.Cleanup(func() { resp.Body.Close(); http.DefaultClient.CloseIdleConnections() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		f.t.Fatalf("%s, %s", resp.Status, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return &watcher{f.t, lines}
}

// next returns the next event, false at the end.
func (w *watcher) next() (kind string, ws readWorkspace, ok bool) {
	w.t.Helper()
	if !w.lines.Scan() {
		return "", ws, false
	}
	kind, isEvent := strings.CutPrefix(w.lines.Text(), "event: ")
	if !isEvent {
		w.t.Fatalf("an event begins with %q", w.lines.Text())
	}
	if kind == "data" {
		w.lines.Scan()
		text, isData := strings.CutPrefix(w.lines.Text(), "data: ")
		if !isData {
			w.t.Fatalf("data begins with %q", w.lines.Text())
		}
		must(w.t, json.Unmarshal([]byte(text), &ws))
	}
	if w.lines.Scan(); w.lines.Text() != "" {
		w.t.Fatalf("an event ends with %q", w.lines.Text())
	}
	return kind, ws, true
}

func (w *watcher) want(what string, ok func(readWorkspace) bool) {
	w.t.Helper()
	for {
		kind, ws, more := w.next()
		if !more {
			w.t.Fatalf("the stream ended before %s", what)
		}
		if kind == "data" && ok(ws) {
			return
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ws := f.demo()
	base := f.serve()
	w := f.watch(base, f.ann, ws.ID)
	kind, first, ok := w.next()
	if !ok || kind != "data" || first.ID != ws.ID || first.LatestBuild.ID == uuid.Nil || first.LatestBuild.Transition != "start" {
		t.Fatalf("first event %s %+v", kind, first)
	}
	must(t, f.catalog.SetLifecycle(t.Context(), ws.Agents[0].ID, agentpb.Lifecycle_SHUTTING_DOWN, time.Now()))
	w.want("the agent's new state", func(ws readWorkspace) bool {
		return ws.LatestBuild.Resources[0].Agents[0].LifecycleState == "shutting_down"
	})
	// That an agent is still alive is no change.
	must(t, f.catalog.Heartbeat(t.Context(), []uuid.UUID{ws.Agents[0].ID}, time.Now().Add(time.Second)))
	if kind, ws, ok := w.next(); kind != "ping" || !ok {
		t.Errorf("after a heartbeat: %s %+v", kind, ws)
	}
	f.do(f.ann, "PUT", v1+"/workspaces/"+ws.ID.String(), "name: renamed\nagents: [{name: main}]", 200, nil)
	w.want("the new name", func(now readWorkspace) bool {
		return now.Name == "renamed" && now.LatestBuild.ID == first.LatestBuild.ID
	})
	f.do(f.ann, "DELETE", v1+"/workspaces/"+ws.ID.String(), "", 204, nil)
	w.want("the end", func(now readWorkspace) bool {
		return now.LatestBuild.Status == "stopped" && now.LatestBuild.Transition == "stop"
	})
	if kind, _, ok := w.next(); ok {
		t.Errorf("after the end: %s", kind)
	}
}

func TestWatch_EndsWithTheRight(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ws := f.demo()
	base := f.serve()
	w := f.watch(base, f.ann, ws.ID)
	w.next()
	f.do(f.ann, "POST", v1+"/users/me/token", "", 200, nil)
	if kind, _, ok := w.next(); ok {
		t.Errorf("after the token was replaced: %s", kind)
	}
	w = f.watch(base, f.admin, ws.ID)
	w.next()
	f.handler.Close()
	if kind, _, ok := w.next(); ok {
		t.Errorf("after the server was closed: %s", kind)
	}
}

func (f *fixture) logLines(agent uuid.UUID, from, to int) {
	f.t.Helper()
	var lines []catalog.LogLine
	for i := from; i < to; i++ {
		lines = append(lines, catalog.LogLine{Output: fmt.Sprint(i), Level: agentpb.Log_WARN, SourceID: agent})
	}
	_, err := f.catalog.AppendLogs(f.t.Context(), agent, lines)
	must(f.t, err)
}

// wantOutputs checks that the lines count on from one number.
func wantOutputs(t *testing.T, lines []clientLogLine, from, to int) {
	t.Helper()
	if len(lines) != to-from {
		t.Fatalf("%d lines, want %d", len(lines), to-from)
	}
	for i, l := range lines {
		if l.Output != fmt.Sprint(from+i) || l.Level != "warn" || l.SourceID == uuid.Nil || l.CreatedAt.IsZero() || l.ID == 0 {
			t.Fatalf("line %d: %+v", i, l)
		}
	}
}

func TestLogs(t *testing.T) {
	f := newFixture(t)
	agent := f.demo().Agents[0].ID
	c := stockClient{f, f.ann}
	lines := []clientLogLine{}
	c.get("/workspaceagents/"+agent.String()+"/logs", &lines)
	if lines == nil || len(lines) != 0 {
		t.Errorf("%v", lines)
	}
	const n = 2*maxLines + 7
	f.logLines(agent, 0, n)
	c.get("/workspaceagents/"+agent.String()+"/logs?no_compression", &lines)
	wantOutputs(t, lines, 0, n)
	c.get(fmt.Sprintf("/workspaceagents/%s/logs?after=%d", agent, lines[9].ID), &lines)
	wantOutputs(t, lines, 10, n)
	f.do(f.ann, "GET", "/api/v2/workspaceagents/"+agent.String()+"/logs?after=x", "", 400, nil)
}

func TestLogs_Follow(t *testing.T) {
	f := newFixture(t)
	agent := f.demo().Agents[0].ID
	base := f.serve()
	f.logLines(agent, 0, 5)
	// This one comes with a cookie.
	ws, _, err := websocket.Dial(t.Context(), base+"/api/v2/workspaceagents/"+agent.String()+"/logs?follow", &websocket.DialOptions{
		HTTPHeader: http.Header{"Cookie": {wire.TokenCookie + "=" + f.ann}},
	})
	must(t, err)
	defer ws.CloseNow()
	read := func() (lines []clientLogLine) {
		t.Helper()
		kind, text, err := ws.Read(t.Context())
		must(t, err)
		if kind != websocket.MessageText {
			t.Fatalf("a message is %v", kind)
		}
		must(t, json.Unmarshal(text, &lines))
		return lines
	}
	wantOutputs(t, read(), 0, 5)
	f.logLines(agent, 5, 8)
	wantOutputs(t, read(), 5, 8)
	f.do(f.ann, "POST", v1+"/users/me/token", "", 200, nil)
	if _, _, err := ws.Read(t.Context()); err == nil {
		t.Error("it goes on after the token was replaced")
	}
}
