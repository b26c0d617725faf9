package agentpty

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func vector(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "pty", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// replay sends the recorded client side, each segment after what the recorded
// agent had sent before it, and returns the client.
func replay(t *testing.T, f *fixture, name string) *client {
	t.Helper()
	sent := vector(t, name+"-client-to-agent.bin")
	c := f.dial().read()
	answered := 0
	lines := bufio.NewScanner(strings.NewReader(string(vector(t, name+"-timeline.jsonl"))))
	for lines.Scan() {
		var e struct {
			Direction, Event string
			Offset, Length   int
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Event == "end":
		case e.Direction == "agent-to-client":
			answered = e.Offset + e.Length
		default:
			eventually(t, "the answer before a segment", func() bool { return len(c.text()) >= answered }, c.text)
			c.send(sent[e.Offset : e.Offset+e.Length])
		}
	}
	eventually(t, "the last answer", func() bool { return len(c.text()) >= answered }, c.text)
	return c
}

func TestServer_RecordedSessions(t *testing.T) {
	f := newFixture(t, nil)
	c := replay(t, f, "buffered")
	want := string(vector(t, "buffered-agent-to-client.bin"))
	// Two lines are typed at once in the end, so their echo and the first answer
	// may be mixed differently; everything before is exact.
	const exact = 66
	if diff := cmp.Diff(want[:exact], c.text()[:exact]); diff != "" {
		t.Errorf("first part (-want +got):\n%s", diff)
	}
	if len(c.text()) != len(want) {
		t.Errorf("%d bytes, want %d: %q", len(c.text()), len(want), c.text())
	}
	rest := c.text()[exact:]
	for _, part := range []string{`printf 'caf\303\251\n'` + "\r\n", "café\r\n", "demo$", "two-in-one\r\n", "demo$"} {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Fatalf("%q is missing in the rest of %q", part, c.text())
		}
		rest = after
	}
	before := c.text()
	c.close()

	again := replay(t, f, "buffered-reattach")
	again.waitEnd()
	recorded := string(vector(t, "buffered-reattach-agent-to-client.bin"))
	if diff := cmp.Diff(before+recorded[len(want):], again.text()); diff != "" {
		t.Errorf("reattached (-want +got):\n%s", diff)
	}

	bad := replay(t, f, "bad-id")
	bad.waitEnd()
	if bad.text() != "" {
		t.Errorf("a bad ID was answered with %q", bad.text())
	}
	eventually(t, "three reports", func() bool { return len(f.rep.reports()) == 3 }, func() string { return "" })
	for _, r := range f.rep.reports() {
		if diff := cmp.Diff(report{Kind: "reconnecting_pty", IP: "127.0.0.1"}, r); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
	}
	if got := f.value("agent_reconnecting_pty_connections_total"); got != 3 {
		t.Errorf("%v connections counted", got)
	}
}
