package agentssh

import (
	"bytes"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/agent/stats"
)

// FuzzPayloads feeds every payload parser; what is accepted must be exactly what
// would be written for it.
func FuzzPayloads(f *testing.F) {
	for _, v := range []any{
		ptyPayload{"xterm", 80, 24, 0, 0, "\x35\x00\x00\x00\x01\x00"}, windowPayload{1, 2, 3, 4}, envPayload{"A", "b"}, textPayload{"ls"},
		x11Payload{true, "MIT-MAGIC-COOKIE-1", "00ff", 0}, directPayload{"localhost", 22, "127.0.0.1", 1},
		directUnixPayload{"/s", "", 0}, listenPayload{"*", 0}, forwardedUnixPayload{"/s", ""},
	} {
		f.Add(ssh.Marshal(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again[ptyPayload](t, b)
		again[windowPayload](t, b)
		again[envPayload](t, b)
		again[textPayload](t, b)
		again[directPayload](t, b)
		again[directUnixPayload](t, b)
		again[listenPayload](t, b)
		if p, ok := parse[x11Payload](b); ok { // a bool has many encodings
			if got := ssh.Marshal(p); len(got) != len(b) || !bytes.Equal(got[1:], b[1:]) {
				t.Fatalf("%x became %x", b, got)
			}
		}
	})
}

func again[T any](t *testing.T, b []byte) {
	if p, ok := parse[T](b); ok {
		if got := ssh.Marshal(p); !bytes.Equal(got, b) {
			t.Fatalf("%T: %x became %x", p, b, got)
		}
	}
}

// FuzzRequests drives the request loop of a session with anything: whatever
// comes, a session takes at most one job and stays within its bounds.
func FuzzRequests(f *testing.F) {
	f.Add("env", ssh.Marshal(envPayload{"A", "b"}), uint8(3))
	f.Add("pty-req", ssh.Marshal(ptyPayload{"xterm", 1 << 20, 24, 0, 0, ""}), uint8(1))
	f.Add("exec", ssh.Marshal(textPayload{"x"}), uint8(2))
	f.Add("signal", ssh.Marshal(textPayload{"TERM"}), uint8(255))
	tally := stats.New(stats.Options{})
	f.Fuzz(func(t *testing.T, name string, payload []byte, times uint8) {
		srv := &Server{log: slog.New(slog.DiscardHandler), o: Options{Tally: tally}}
		s := &session{c: &connection{srv: srv}, signals: make(chan os.Signal, maxSignals), resized: make(chan struct{}, 1)}
		jobs := 0
		for range times {
			s.request(&ssh.Request{Type: name, Payload: payload})
			if s.next != nil {
				jobs++
				s.next = nil
			}
		}
		if jobs > 1 || len(s.env) > maxEnv || len(s.resized) > 1 {
			t.Fatalf("%d jobs, %d variables", jobs, len(s.env))
		}
	})
}

func FuzzParseModes(f *testing.F) {
	f.Add([]byte("\x35\x00\x00\x00\x01\x81\x00\x00\x96\x00\x00"))
	term, err := agentexec.OpenTerminal()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { term.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(parseModes(b)); n > len(b)/5 {
			t.Fatalf("%d modes in %d bytes", n, len(b))
		}
		if err := term.Configure(func(fd int) error { return applyModes(fd, b) }); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseXauthority(f *testing.F) {
	b, err := formatXauthority([]xauthEntry{{familyLocal, "host", "10", "MIT-MAGIC-COOKIE-1", "0123456789abcdef"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseXauthority(b)
		if err != nil {
			return
		}
		got, err := formatXauthority(entries)
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%x became %x, %v", b, got, err)
		}
	})
}
