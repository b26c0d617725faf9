package stats

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/appname"
)

// valueOf sums the series of a name whose labels contain the given pairs.
func valueOf(series []Series, name string, labels ...string) float64 {
	sum := 0.0
next:
	for _, s := range series {
		if s.Name != name {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			found := false
			for _, l := range s.Labels {
				found = found || l.Name == labels[i] && l.Value == labels[i+1]
			}
			if !found {
				continue next
			}
		}
		sum += s.Value
	}
	return sum
}

func TestSession_KindFromFacts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		facts  SessionFacts
		stdin  []string
		app    string
		gauge  appname.Family
		opened float64
	}{
		{name: "plain shell", app: "ssh", gauge: appname.SSH, opened: 1},
		{name: "marker in any case", facts: SessionFacts{Marker: "VSCode"}, app: "vscode", gauge: appname.VSCode, opened: 1},
		{name: "unknown marker counts as ssh", facts: SessionFacts{Marker: "My Tool"}, app: "my tool", gauge: appname.SSH, opened: 1},
		{name: "jetbrains marker is tracked by channel", facts: SessionFacts{Marker: "jetbrains"}, app: "jetbrains", gauge: appname.JetBrains},
		{name: "command from a server directory", facts: SessionFacts{Command: "~/.cursor-server/bin/x"}, app: "cursor", gauge: appname.VSCode, opened: 1},
		{name: "fork behind the vscode marker", facts: SessionFacts{Marker: "vscode", Command: "ls ~/.windsurf-server"}, app: "windsurf", gauge: appname.VSCode, opened: 1},
		{name: "marker of another family stays", facts: SessionFacts{Marker: "zed", Command: "ls ~/.vscode-server"}, app: "zed", gauge: appname.SSH, opened: 1},
		{name: "bootstrap on stdin, cut in the middle", stdin: []string{"mkdir -p ~/.vscode-ser", "ver-insiders/bin"}, app: "vscode_insiders", gauge: appname.VSCode, opened: 1},
		{name: "stdin after 64 KiB is not searched", stdin: []string{strings.Repeat("x", stdinLimit), ".vscode-server"}, app: "ssh", gauge: appname.SSH, opened: 1},
		{name: "stdin of a terminal is not searched", facts: SessionFacts{PTY: true}, stdin: []string{".vscode-server"}, app: "ssh", gauge: appname.SSH, opened: 1},
		{name: "stdin of a command is not searched", facts: SessionFacts{Command: "cat"}, stdin: []string{".vscode-server"}, app: "ssh", gauge: appname.SSH, opened: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tally := New(Options{})
			s := tally.OpenConn().OpenSession(tc.facts)
			for _, p := range tc.stdin {
				s.ObserveStdin([]byte(p))
			}
			if got := s.Kind(); got.App != tc.app || appname.Gauge(got.Family) != tc.gauge {
				t.Errorf("kind %+v, want %s in gauge %s", got, tc.app, tc.gauge)
			}
			snap := tally.Snapshot()
			if got := valueOf(snap.Totals, "agent_sessions_opened_total"); got != tc.opened {
				t.Errorf("opened %v, want %v", got, tc.opened)
			}
			if got := ByGauge(snap.Gauges.Sessions)[tc.gauge]; float64(got) != tc.opened {
				t.Errorf("gauge %s = %d", tc.gauge, got)
			}
			s.Close(EndExited)
			s.Close(EndFailed)
			snap = tally.Snapshot()
			if got := valueOf(snap.Totals, "agent_sessions_ended_total", "family", string(tc.gauge), "reason", "exited"); got != tc.opened {
				t.Errorf("ended %v, want %v", got, tc.opened)
			}
			if len(snap.Gauges.Sessions) != 0 {
				t.Errorf("still open: %v", snap.Gauges.Sessions)
			}
		})
	}
}

func TestForward_TellsWhatTheSessionIs(t *testing.T) {
	editor := ForwardFacts{Executable: "/home/u/.vscodium-server/bin/abc/node"}
	t.Run("a shell beside it is reclassified in place", func(t *testing.T) {
		tally := New(Options{})
		c := tally.OpenConn()
		shell, terminal := c.OpenSession(SessionFacts{}), c.OpenSession(SessionFacts{PTY: true})
		f := c.OpenForward(editor)
		if shell.Kind().App != "vscodium" || terminal.Kind().App != "ssh" || f.Counted() {
			t.Errorf("shell %v, terminal %v, counted %v", shell.Kind(), terminal.Kind(), f.Counted())
		}
		if got := valueOf(tally.Snapshot().Totals, "agent_sessions_opened_total"); got != 2 {
			t.Errorf("opened %v", got)
		}
	})
	t.Run("without a session the connection counts once", func(t *testing.T) {
		tally := New(Options{})
		c := tally.OpenConn()
		a, b := c.OpenForward(editor), c.OpenForward(editor)
		want := []OpenSessions{{App: "vscodium", Family: appname.VSCode, Count: 1}}
		if diff := cmp.Diff(want, tally.Snapshot().Gauges.Sessions); diff != "" {
			t.Error(diff)
		}
		s := c.OpenSession(SessionFacts{})
		if diff := cmp.Diff(want, tally.Snapshot().Gauges.Sessions); diff != "" {
			t.Errorf("after a session took over: %s", diff)
		}
		a.Close(EndExited)
		b.Close(EndExited)
		s.Close(EndExited)
		snap := tally.Snapshot()
		if opened, ended := valueOf(snap.Totals, "agent_sessions_opened_total"), valueOf(snap.Totals, "agent_sessions_ended_total"); opened != 1 || ended != 1 {
			t.Errorf("opened %v, ended %v", opened, ended)
		}
	})
	t.Run("a JetBrains channel is a session", func(t *testing.T) {
		tally := New(Options{})
		c := tally.OpenConn()
		f := c.OpenForward(ForwardFacts{CommandLine: "java -Didea.vendor.name=JetBrains x"})
		if !f.Counted() {
			t.Error("not counted")
		}
		if got := ByGauge(tally.Snapshot().Gauges.Sessions)[appname.JetBrains]; got != 1 {
			t.Errorf("gauge %d", got)
		}
		f.Close(EndExited)
		f.Close(EndExited)
		if got := ByGauge(tally.Snapshot().Gauges.Sessions)[appname.JetBrains]; got != 0 {
			t.Errorf("gauge %d after the end", got)
		}
	})
	t.Run("an ordinary forward counts for nothing", func(t *testing.T) {
		tally := New(Options{})
		f := tally.OpenConn().OpenForward(ForwardFacts{CommandLine: "postgres"})
		f.Close(EndExited)
		if got := valueOf(tally.Snapshot().Totals, "agent_sessions_opened_total"); got != 0 {
			t.Errorf("opened %v", got)
		}
	})
}

// TestStorm_OpenedIsEndedPlusOpen opens, reclassifies and closes from many
// goroutines while windows are cut; at every snapshot the books balance, and at
// the end everything is exact.
func TestStorm_OpenedIsEndedPlusOpen(t *testing.T) {
	tally := New(Options{})
	const workers, rounds = 8, 300
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var windows []Window
	var cutter sync.WaitGroup
	cutter.Go(func() {
		for {
			w := tally.CutWindow()
			windows = append(windows, w)
			open := 0.0
			for _, o := range w.Gauges.Sessions {
				open += float64(o.Count)
			}
			opened, ended := valueOf(w.Totals, "agent_sessions_opened_total"), valueOf(w.Totals, "agent_sessions_ended_total")
			if opened != ended+open {
				t.Errorf("opened %v, ended %v, open %v", opened, ended, open)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			flow := tally.OpenFlow(PathTCP, "TCP")
			defer flow.Close()
			for range rounds {
				c := tally.OpenConn()
				s := c.OpenSession(SessionFacts{PTY: r.IntN(2) == 0})
				s.ObserveStdin([]byte("~/.cursor-server"))
				f := c.OpenForward(ForwardFacts{CommandLine: "x/.cursor-server/node"})
				flow.Received(3)
				flow.Sent(5)
				s.Close(EndExited)
				f.Close(EndDisconnected)
				terminal := tally.OpenTerminal()
				tally.ScriptRan(ScriptRun{StageCron, ScriptOK, time.Second})
				terminal.Close(EndShutdown)
			}
		})
	}
	wg.Wait()
	close(stop)
	cutter.Wait()
	windows = append(windows, tally.CutWindow())
	var rx, tx uint64
	for _, w := range windows {
		rx, tx = rx+w.RxBytes, tx+w.TxBytes
	}
	if rx != 3*workers*rounds || tx != 5*workers*rounds {
		t.Errorf("the windows hold %d and %d bytes", rx, tx)
	}
	totals := windows[len(windows)-1].Totals
	for name, want := range map[string]float64{
		"agent_scripts_executed_total":             workers * rounds,
		"agent_script_duration_seconds_sum":        workers * rounds,
		"agent_reconnecting_pty_connections_total": workers * rounds,
		"agent_network_receive_bytes_total":        3 * workers * rounds,
	} {
		if got := valueOf(totals, name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

func TestRestore_TotalsContinue(t *testing.T) {
	old := New(Options{})
	f := old.OpenFlow(PathTCP, "TCP")
	f.Received(100)
	old.ScriptRan(ScriptRun{StageStart, ScriptOK, 1500 * time.Millisecond})
	saved := append(old.CutWindow().Totals, Series{Name: "agent_of_the_future_total", Value: 7},
		Series{Name: receiveBytes, Labels: []Label{{"path", "pigeon"}}, Value: 11})

	tally := New(Options{})
	tally.Restore(saved)
	g := tally.OpenFlow(PathTCP, "TCP")
	g.Received(1)
	tally.ScriptRan(ScriptRun{StageStart, ScriptOK, 500 * time.Millisecond})
	w := tally.CutWindow()
	if w.RxBytes != 1 {
		t.Errorf("the window holds %d bytes, want 1", w.RxBytes)
	}
	for name, want := range map[string]float64{
		receiveBytes: 112, "agent_of_the_future_total": 7, "agent_scripts_executed_total": 2, "agent_script_duration_seconds_sum": 2,
	} {
		if got := valueOf(w.Totals, name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
}

func TestWindow_ByteGaugeHoldsTheLastMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := New(Options{})
		f := tally.OpenFlow(PathTCP, "TCP")
		for range 4 {
			f.Received(10)
			f.Sent(1)
			time.Sleep(25 * time.Second)
			tally.CutWindow()
		}
		// Windows end at 25, 50, 75 and 100 s; at 100 s the first is out.
		s := tally.Snapshot()
		if s.RxBytes != 30 || s.TxBytes != 3 || s.WindowLength != 25*time.Second {
			t.Errorf("rx %d tx %d length %s", s.RxBytes, s.TxBytes, s.WindowLength)
		}
		time.Sleep(time.Minute)
		if s := tally.Snapshot(); s.RxBytes != 0 {
			t.Errorf("rx %d a minute later", s.RxBytes)
		}
	})
}

func TestWindow_ConnectionsAreFlowsWithTraffic(t *testing.T) {
	tally := New(Options{})
	busy, idle, gone := tally.OpenFlow(PathTCP, "TCP"), tally.OpenFlow(PathTCP, "TCP"), tally.OpenFlow(PathUnix, "unix")
	busy.Received(1)
	gone.Sent(1)
	gone.Close()
	gone.Close()
	_ = idle
	g := tally.CutWindow().Gauges
	if diff := cmp.Diff(map[string]int64{"TCP": 1, "unix": 1}, g.ConnectionsByProto); diff != "" || g.Connections != 2 {
		t.Errorf("connections %d %s", g.Connections, diff)
	}
	if g := tally.CutWindow().Gauges; g.Connections != 0 {
		t.Errorf("%d connections in a silent window", g.Connections)
	}
}

func TestOpenSessions_InventedNamesAreBounded(t *testing.T) {
	tally := New(Options{})
	for i := range 500 {
		tally.OpenConn().OpenSession(SessionFacts{Marker: strings.Repeat("x", 1+i%100) + string(rune('a'+i/100))})
	}
	open := tally.Snapshot().Gauges.Sessions
	var n int64
	for _, o := range open {
		n += o.Count
	}
	if len(open) > maxAppNames+1 || n != 500 {
		t.Errorf("%d names, %d sessions", len(open), n)
	}
}

func FuzzObserveStdin(f *testing.F) {
	f.Add("~/.vscode-", "server/bin")
	f.Fuzz(func(t *testing.T, a, b string) {
		s := New(Options{}).OpenConn().OpenSession(SessionFacts{})
		s.ObserveStdin([]byte(a))
		s.ObserveStdin([]byte(b))
		if app, ok := appOfText([]byte(a + b)); ok && len(a)+len(b) < stdinLimit && s.Kind().Family != kindOf(app).Family {
			t.Errorf("%q and %q: %v", a, b, s.Kind())
		}
	})
}

func BenchmarkFlow_Received(b *testing.B) {
	tally := New(Options{})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		f := tally.OpenFlow(PathTCP, "TCP")
		defer f.Close()
		for pb.Next() {
			f.Received(1280)
		}
	})
}

func TestPackets_ByPathAndFlow(t *testing.T) {
	tally := New(Options{})
	addr := netip.MustParseAddr("fd7a:115c:a1e0::1")
	local := netip.AddrPortFrom(addr, 22)
	for i := range 10 {
		tally.Packets(PathP2P, 6, local, netip.AddrPortFrom(addr, uint16(1000+i%5)), 2, 100, true)
	}
	tally.Packets(PathDERP, 58, local, local, 1, 60, false)
	w := tally.CutWindow()
	if diff := cmp.Diff(map[string]int64{"TCP": 5, "ICMPv6": 1}, w.Gauges.ConnectionsByProto); diff != "" {
		t.Error(diff)
	}
	if w.RxBytes != 1000 || w.TxBytes != 60 {
		t.Errorf("rx %d tx %d", w.RxBytes, w.TxBytes)
	}
	if got := valueOf(w.Totals, receivePackets, "path", "p2p"); got != 20 {
		t.Errorf("%v packets", got)
	}
	if g := tally.CutWindow().Gauges; g.Connections != 0 {
		t.Errorf("%d connections in a silent window", g.Connections)
	}
	tally.CutWindow()
	for i := range tally.shards {
		if n := len(tally.shards[i].flows); n != 0 {
			t.Errorf("%d flows are remembered", n)
		}
	}
}

func TestPackets_FlowsAreBounded(t *testing.T) {
	tally := New(Options{})
	addr := netip.MustParseAddr("fd7a:115c:a1e0::1")
	for i := range 3 * maxFlows {
		tally.Packets(PathP2P, 17, netip.AddrPortFrom(addr, uint16(i)), netip.AddrPortFrom(addr, uint16(i/2)), 1, 1, true)
	}
	w := tally.CutWindow()
	dropped := valueOf(w.Totals, "agent_dropped_total", "what", string(DropFlows))
	if w.Gauges.Connections > maxFlows || float64(w.Gauges.Connections)+dropped != 3*maxFlows || w.RxBytes != 3*maxFlows {
		t.Errorf("%d flows, %v dropped, %d bytes", w.Gauges.Connections, dropped, w.RxBytes)
	}
}

func BenchmarkTally_Packets(b *testing.B) {
	tally := New(Options{})
	addr := netip.MustParseAddr("fd7a:115c:a1e0::1")
	var next atomic.Uint32
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		remote := netip.AddrPortFrom(addr, uint16(next.Add(1)))
		for pb.Next() {
			tally.Packets(PathP2P, 6, netip.AddrPortFrom(addr, 22), remote, 1, 1280, true)
		}
	})
}
