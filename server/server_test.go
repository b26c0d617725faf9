package server

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNew_TroubleIsAnError: whatever cannot be opened is one error that says
// what, and leaves nothing open.
func TestNew_TroubleIsAnError(t *testing.T) {
	dir := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.Mkdir(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, relayKeyFile), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, want string
		o          Options
	}{
		{"the address is taken", "--http-address", Options{HTTPAddress: taken.Addr().String(), StateDir: dir}},
		{"the page's address is taken", "--prometheus-address", Options{StateDir: dir, Prometheus: Prometheus{Enable: true, Address: taken.Addr().String()}}},
		{"the state directory is a file", "state directory", Options{StateDir: garbage}},
		{"the database is none", "garbage.db", Options{DatabaseDSN: garbage}},
		{"a key is damaged", relayKeyFile + " has 5 bytes", Options{StateDir: broken}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.o.HTTPAddress == "" {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				tc.o.HTTPListener = l
				defer func() {
					if l.Close() == nil {
						t.Error("the listener was left open")
					}
				}()
			}
			s, err := New(t.Context(), tc.o)
			if s != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("server %v, error %v; want one about %q", s != nil, err, tc.want)
			}
		})
	}
}
