package agentssh

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
)

// fakeX listens where X programs expect a display and hands out what the first
// client sends, after answering it.
func fakeX(t *testing.T) (number int, received <-chan []byte) {
	t.Helper()
	for number = 300; number < 400; number++ {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(x11BasePort+number))
		if err != nil {
			continue
		}
		got := make(chan []byte, 1)
		go func() {
			defer close(got)
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			b := make([]byte, len(x11Setup("", nil))+20+16+5)
			if _, err := io.ReadFull(c, b); err == nil {
				got <- b
				_, _ = io.WriteString(c, "answer")
			}
		}()
		t.Cleanup(func() { l.Close() })
		return number, got
	}
	t.Fatal("no free display")
	return 0, nil
}

// x11Setup is the first message of an X client: little endian, protocol 11.0,
// the name of the authorization protocol (padded) and the cookie.
func x11Setup(name string, cookie []byte) []byte {
	b := []byte{'l', 0, 11, 0, 0, 0, byte(len(name)), 0, byte(len(cookie)), 0, 0, 0}
	b = append(b, name...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return append(b, cookie...)
}

func TestServer_X11(t *testing.T) {
	need(t, "xauth")
	w := newWorld(t)
	number, received := fakeX(t)
	// An empty file: the user's own cookies have no business here.
	w.background([]string{"DISPLAY=127.0.0.1:" + strconv.Itoa(number) + ".0", "XAUTHORITY=" + filepath.Join(t.TempDir(), "none")}, "-Y")

	entries, err := parseXauthority([]byte(w.read(".Xauthority")))
	if err != nil || len(entries) != 1 {
		t.Fatalf("entries = %v, %v", entries, err)
	}
	e := entries[0]
	list := w.tool(nil, nil, "xauth", "-f", filepath.Join(w.home, ".Xauthority"), "list")
	if host, _ := os.Hostname(); e.family != familyLocal || e.address != host ||
		!strings.Contains(list.stdout, "unix:"+e.number+"  MIT-MAGIC-COOKIE-1  "+hex.EncodeToString([]byte(e.data))) {
		t.Errorf("entry = %+v, xauth lists %+v", e, list)
	}
	display, err := strconv.Atoi(e.number)
	if err != nil || display < firstDisplay || display > lastDisplay {
		t.Fatalf("display = %q", e.number)
	}
	c, err := net.Dial("tcp", "localhost:"+strconv.Itoa(x11BasePort+display))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(deadline)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append(x11Setup(e.name, []byte(e.data)), "hello"...)); err != nil {
		t.Fatal(err)
	}
	if got := <-received; !bytes.HasSuffix(got, []byte("hello")) || got[0] != 'l' {
		t.Errorf("the display got %q", got)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "answer" {
		t.Errorf("the program got %q, %v", b, err)
	}
}

func x11Request(screen uint32) []byte {
	return ssh.Marshal(x11Payload{true, "MIT-MAGIC-COOKIE-1", "00ff", screen})
}

func TestServer_X11Display(t *testing.T) {
	w := newWorld(t)
	s := w.session(w.dial())
	if ok, err := s.SendRequest("x11-req", true, x11Request(2)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	b, err := s.Output("echo $DISPLAY; stat -c %a $HOME/.Xauthority")
	var number int
	if err == nil {
		text, _, _ := strings.Cut(strings.TrimPrefix(string(b), "localhost:"), ".")
		number, err = strconv.Atoi(text)
	}
	if want := "localhost:" + strconv.Itoa(number) + ".2\n600\n"; err != nil || string(b) != want {
		t.Errorf("output = %q, want %q (%v)", b, want, err)
	}
	if l, err := net.Listen("tcp", "localhost:"+strconv.Itoa(x11BasePort+number)); err != nil {
		t.Errorf("the display is left: %v", err)
	} else {
		l.Close()
	}
}

func TestServer_X11Failure(t *testing.T) {
	w := newWorld(t)
	if err := os.WriteFile(filepath.Join(w.home, ".Xauthority"), []byte("\x01"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := w.session(w.dial())
	if ok, err := s.SendRequest("x11-req", true, x11Request(0)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	var exit *ssh.ExitError
	if err := s.Run("true"); !errors.As(err, &exit) || exit.ExitStatus() != 1 {
		t.Errorf("run = %v", err)
	}
	if w.total("agent_x11_handler_errors_total", "error_type", "xauthority") != 1 {
		t.Error("not counted")
	}
	if _, d := w.reports.all(); len(d) != 1 || d[0].Reason != "x11 handler failed" {
		t.Errorf("disconnected = %+v", d)
	}
}

func TestDisplays_EvictTheLeastRecentlyUsed(t *testing.T) {
	d := displays{inUse: make(map[int]*display)}
	var evicted []int
	var open []*display
	for len(evicted) == 0 && len(open) <= lastDisplay-firstDisplay+1 {
		i := len(open)
		x, err := d.open(func() { evicted = append(evicted, i) })
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, x)
		d.touch(open[0])
	}
	for _, x := range open {
		d.close(x)
	}
	if diff := cmp.Diff([]int{1}, evicted); diff != "" {
		t.Errorf("evicted, while the first one is always in use (-want +got):\n%s", diff)
	}
	if len(d.inUse) != 0 {
		t.Errorf("%d displays are left", len(d.inUse))
	}
}

func TestMergeXauthority(t *testing.T) {
	entry := func(number, data string) xauthEntry {
		return xauthEntry{familyLocal, "host", number, "MIT-MAGIC-COOKIE-1", data}
	}
	got := mergeXauthority([]xauthEntry{entry("1", "a"), entry("10", "old"), entry("2", "b"), entry("10", "older")}, entry("10", "new"))
	want := []xauthEntry{entry("1", "a"), entry("10", "new"), entry("2", "b")}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(xauthEntry{})); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	got = mergeXauthority(want, entry("3", "c"))
	if len(got) != 4 || got[3] != entry("3", "c") {
		t.Errorf("entries = %v", got)
	}
}

func TestAddXauthority_WaitsForTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".Xauthority")
	unlock, err := lockXauthority(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := addXauthority(ctx, path, xauthEntry{number: "1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with the lock held: %v", err)
	}
	unlock()
	if err := addXauthority(context.Background(), path, xauthEntry{number: "1"}); err != nil {
		t.Error(err)
	}
	// Whoever held it is dead.
	if _, err := lockXauthority(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * lockDead)
	for _, end := range []string{"-c", "-l"} {
		if err := os.Chtimes(path+end, old, old); err != nil {
			t.Fatal(err)
		}
	}
	if err := addXauthority(context.Background(), path, xauthEntry{number: "2"}); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files = %v, %v", left, err)
	}
}
