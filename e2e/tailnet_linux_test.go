package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func readAll(resp *http.Response) ([]byte, error) {
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return body, err
}

// download gets n bytes from the workspace over SSH.
func (l *lab) download(n int, flags ...string) error {
	args := append(append([]string{"ssh"}, flags...), "lab", "--", fmt.Sprintf("head -c %d /dev/zero", n))
	var errs bytes.Buffer
	cmd := l.command("client", args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || len(out) != n {
		return fmt.Errorf("%d of %d bytes: %v: %s", len(out), n, err, errs.String())
	}
	return nil
}

func TestTailnet_DirectRelayedAndBlocked_A01(t *testing.T) {
	t.Parallel()
	l := newLab(t, false)
	l.startServer()
	l.startAgent()
	l.awaitPath("p2p via 10.77.0.2:")
	if err := l.download(3 << 20); err != nil {
		t.Fatal(err)
	}
	before, err := l.page()
	if err != nil {
		t.Fatal(err)
	}
	if sent := before.Sum("agent_network_transmit_bytes_total", `path="p2p"`); sent < 3<<20 {
		t.Errorf("%v bytes were sent directly", sent)
	}
	// A client that blocks direct connections for longer than two reports stays on
	// the relay: the agent's pings must not lead it astray.
	l.awaitPath("derp via region 999", "--disable-direct-connections")
	if err := l.download(3<<20, "--disable-direct-connections"); err != nil {
		t.Fatal(err)
	}
	held := l.command("client", "ssh", "--disable-direct-connections", "lab", "--", "for i in 1 2 3 4 5; do head -c 100000 /dev/zero; sleep 1; done")
	if out, err := held.Output(); err != nil || len(out) != 500_000 {
		t.Fatalf("%d bytes: %v", len(out), err)
	}
	after, err := l.page()
	if err != nil {
		t.Fatal(err)
	}
	relayed := after.Sum("agent_network_transmit_bytes_total", `path="derp"`) - before.Sum("agent_network_transmit_bytes_total", `path="derp"`)
	if relayed < 3<<20+500_000 {
		t.Errorf("%v bytes went over the relay", relayed)
	}
	if direct := after.Sum("agent_network_transmit_bytes_total", `path="p2p"`) - before.Sum("agent_network_transmit_bytes_total", `path="p2p"`); direct > 1<<20 {
		t.Errorf("%v bytes went directly although the client blocks that", direct)
	}
}

func TestTailnet_BehindNAT_A02(t *testing.T) {
	t.Parallel()
	l := newLab(t, true)
	l.startServer()
	l.startAgent()
	l.awaitPath("p2p via 10.77.0.2:")
	if err := l.download(2 << 20); err != nil {
		t.Fatal(err)
	}
}

func TestTailnet_PartitionAndHeal_A03(t *testing.T) {
	t.Parallel()
	l := newLab(t, false)
	l.startServer()
	l.startAgent()
	l.awaitPath("p2p")
	var out bytes.Buffer
	// One session lives through all of it.
	held := l.command("client", "ssh", "lab", "--", "for i in $(seq 1 300); do echo $i; sleep 0.1; done")
	held.Stdout = &out
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	l.in("hub", "nft", "add table bridge cut; add chain bridge cut f { type filter hook forward priority 0; }; add rule bridge cut f ip saddr 10.77.0.2 ip daddr 10.77.0.3 drop; add rule bridge cut f ip saddr 10.77.0.3 ip daddr 10.77.0.2 drop")
	l.awaitPath("derp")
	l.in("hub", "nft", "delete table bridge cut")
	l.awaitPath("p2p")
	if err := held.Wait(); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 300 {
		t.Errorf("the session showed %d of 300 lines", lines)
	}
}

func TestTailnet_ServerRestartsDuringATransfer_A04(t *testing.T) {
	t.Parallel()
	l := newLab(t, false)
	server := l.startServer()
	l.startAgent()
	const size = 200 << 20
	for _, flags := range [][]string{nil, {"--disable-direct-connections"}} {
		n := size
		if flags != nil {
			n = 40 << 20
		}
		before, err := l.page()
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- l.download(n, flags...) }()
		l.await(func() error {
			page, err := l.page()
			if err != nil {
				return err
			}
			if moved := page.Sum("agent_network_transmit_bytes_total") - before.Sum("agent_network_transmit_bytes_total"); moved < float64(n)/8 {
				return fmt.Errorf("only %v bytes were moved", moved)
			}
			return nil
		})
		server.Kill()
		server = l.startServer()
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("flags %v: %v", flags, err)
			}
		case <-time.After(5 * time.Minute):
			t.Fatalf("flags %v: the transfer does not end", flags)
		}
		after, err := l.page()
		if err != nil {
			t.Fatal(err)
		}
		// Payload, SSH's framing and TCP's segments of at most 1220 bytes with 60
		// bytes of headers; what was lost on the way is sent again.
		moved := after.Sum("agent_network_transmit_bytes_total") - before.Sum("agent_network_transmit_bytes_total")
		if moved < float64(n)*1.04 || moved > float64(n)*1.6 {
			t.Errorf("flags %v: %v bytes were counted for %d of payload", flags, moved, n)
		}
	}
	l.await(func() error {
		out := l.worktally("hub", "workspace", "list")
		if !strings.Contains(out, "connected") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

func TestTailnet_KilledClientIsForgotten_A05(t *testing.T) {
	t.Parallel()
	l := newLab(t, false)
	l.startServer()
	l.startAgent()
	l.awaitPath("p2p")
	client := l.command("client", "ssh", "lab", "--", "exec cat")
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	sessions := func(want float64) func() error {
		return func() error {
			page, err := l.page()
			if err == nil && page.Sum("coderd_agentstats_session_count_ssh") != want {
				err = fmt.Errorf("%v sessions, not %v", page.Sum("coderd_agentstats_session_count_ssh"), want)
			}
			return err
		}
	}
	l.await(sessions(1))
	killed := time.Now()
	_ = client.Process.Kill()
	_ = client.Wait()
	l.await(sessions(0))
	t.Logf("the session of a killed client ended after %s", time.Since(killed).Round(time.Second))
}

// TestTailnet_SmallMTU_A06: a network whose packets are smaller than those of the
// tunnel works, and is not slow.
func TestTailnet_SmallMTU_A06(t *testing.T) {
	t.Parallel()
	l := newLab(t, false)
	l.in("agent", "ip", "link", "set", "eth0", "mtu", "1280")
	l.checkSmallMTU()
}

// TestTailnet_SmallMTUBehindARouter_A07: only the router knows that the packets
// are too large, and tells.
func TestTailnet_SmallMTUBehindARouter_A07(t *testing.T) {
	t.Parallel()
	l := newLab(t, true)
	l.in("router", "ip", "link", "set", "inside", "mtu", "1280")
	l.checkSmallMTU()
}

// checkSmallMTU downloads something to a client behind a narrow link. Bursts that
// the system refuses to cut would make it take minutes.
func (l *lab) checkSmallMTU() {
	l.t.Helper()
	l.in("client", "ip", "link", "set", "eth0", "mtu", "1280")
	l.startServer()
	l.startAgent()
	l.awaitPath("p2p via 10.77.0.2:")
	done := make(chan error, 1)
	go func() { done <- l.download(2 << 20) }()
	select {
	case err := <-done:
		if err != nil {
			l.t.Fatal(err)
		}
	case <-time.After(time.Minute):
		l.t.Fatal("2 MiB are under way for a minute")
	}
}
