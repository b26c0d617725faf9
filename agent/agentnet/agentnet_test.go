package agentnet

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/internal/vectors"
)

func TestMain(m *testing.M) { testtool.Main(m) }

func newAPI(t *testing.T, home string, hidden ...uint16) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(NewAPI(Options{
		Debug: http.NotFoundHandler(), Home: home, HiddenPorts: func() []uint16 { return hidden },
	}))
	t.Cleanup(s.Close)
	return s
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestAPI_LikeTheRecorded compares with the recorded answers of a stock agent.
func TestAPI_LikeTheRecorded(t *testing.T) {
	s := newAPI(t, "")
	_, body := call(t, "GET", s.URL+"/", "")
	if recorded := string(vectors.Read(t, "agent-http/root-response.txt")); !strings.HasSuffix(strings.TrimSpace(recorded), strings.TrimSpace(body)) {
		t.Errorf("%q is not in %q", body, recorded)
	}
	_, body = call(t, "GET", s.URL+"/api/v0/netcheck", "")
	recorded := string(vectors.Read(t, "agent-http/netcheck-response.txt"))
	_, recorded, _ = strings.Cut(strings.ReplaceAll(recorded, "\r", ""), "\n\n")
	var got, want map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(recorded), &want); err != nil {
		t.Fatal(err)
	}
	for key := range want {
		if _, there := got[key]; !there {
			t.Errorf("the answer has no %q: %s", key, body)
		}
	}
	if got["net_info"] == nil {
		t.Error("net_info is null, which crashes clients")
	}
	for path, status := range map[string]int{"/api/v0/containers": 403, "/nothing": 404, "/debug/x": 404} {
		if got, body := call(t, "GET", s.URL+path, ""); got != status {
			t.Errorf("%s: %d %s", path, got, body)
		}
	}
}

func TestAPI_ListeningPorts(t *testing.T) {
	shown, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer shown.Close()
	hidden, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hidden.Close()
	port := func(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }
	s := newAPI(t, "", port(hidden))
	status, body := call(t, "GET", s.URL+"/api/v0/listening-ports", "")
	var answer struct{ Ports []listeningPort }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
	seen := map[uint16]bool{}
	for _, p := range answer.Ports {
		seen[p.Port] = true
	}
	if !seen[port(shown)] || seen[port(hidden)] {
		t.Errorf("%s", body)
	}
}

func TestAPI_ListDirectory(t *testing.T) {
	home := t.TempDir()
	for _, dir := range []string{"b", "a/inner"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(home, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := newAPI(t, home)
	status, body := call(t, "POST", s.URL+"/api/v0/list-directory", `{"path":[],"relativity":"home"}`)
	var answer struct {
		AbsolutePath []string `json:"absolute_path"`
		Contents     []directoryEntry
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
	want := []directoryEntry{{"a", filepath.Join(home, "a"), true}, {"b", filepath.Join(home, "b"), true}, {"file", filepath.Join(home, "file"), false}}
	if diff := cmp.Diff(want, answer.Contents); diff != "" || "/"+strings.Join(answer.AbsolutePath, "/") != home {
		t.Error(answer.AbsolutePath, diff)
	}
	for request, status := range map[string]int{
		`{"path":["gone"],"relativity":"home"}`: 404, `{"path":["file"],"relativity":"home"}`: 500,
		`{"path":[],"relativity":"moon"}`: 500, `garbage`: 400,
	} {
		if got, body := call(t, "POST", s.URL+"/api/v0/list-directory", request); got != status {
			t.Errorf("%s: %d %s", request, got, body)
		}
	}
}

func TestSplice_IPv4ThenIPv6AndNobody(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Skipf("no %s here: %v", address, err)
		}
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
		client, server := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- Splice(context.Background(), server, uint16(l.Addr().(*net.TCPAddr).Port)) }()
		if _, err := io.WriteString(client, "echo"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4)
		if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "echo" {
			t.Errorf("%s: %q %v", address, buf, err)
		}
		_ = client.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = l.Close()
	}
	client, server := net.Pipe()
	defer client.Close()
	if err := Splice(context.Background(), server, 1); err == nil {
		t.Error("a port without a listener was reached")
	}
}

func TestSpeedtest_BothDirectionsAndNonsense(t *testing.T) {
	run := func(hello string, client func(net.Conn, *bufio.Reader)) error {
		a, b := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- Speedtest(context.Background(), b) }()
		if _, err := io.WriteString(a, hello); err != nil {
			t.Fatal(err)
		}
		client(a, bufio.NewReader(a))
		_ = a.Close()
		return <-done
	}
	line := func(r *bufio.Reader) string {
		text, err := r.ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(text)
	}
	err := run(`{"version":2,"time":100000000,"direction":0}`+"\n", func(_ net.Conn, r *bufio.Reader) {
		if got := line(r); got != "{}" {
			t.Errorf("answer %s", got)
		}
		if n, err := io.Copy(io.Discard, r); n < speedBlock || n%speedBlock != 0 || err != nil {
			t.Errorf("%d bytes %v", n, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	err = run(`{"version":2,"time":5000000000,"direction":1}`+"\n", func(c net.Conn, r *bufio.Reader) {
		if got := line(r); got != "{}" {
			t.Errorf("answer %s", got)
		}
		if _, err := c.Write(make([]byte, speedBlock)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	for _, hello := range []string{`{"version":1,"time":1,"direction":0}`, `{"version":2,"time":-1}`, `{"version":2,"time":9999999999999}`, `{"version":2,"time":1,"direction":7}`, `garbage`} {
		err := run(hello+"\n", func(_ net.Conn, r *bufio.Reader) {
			if got := line(r); !strings.Contains(got, `"error"`) {
				t.Errorf("%s: %s", hello, got)
			}
		})
		if err == nil {
			t.Errorf("%s: no error", hello)
		}
	}
}

func FuzzSpeedtest(f *testing.F) {
	f.Add([]byte(`{"version":2,"time":1,"direction":1}` + "\n"))
	f.Fuzz(func(t *testing.T, hello []byte) {
		a, b := net.Pipe()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- Speedtest(ctx, b) }()
		go func() { _, _ = io.Copy(io.Discard, a) }()
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = a.Write(hello)
		_ = a.Close()
		<-done
	})
}
