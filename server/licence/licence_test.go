package licence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/testtool"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// keys returns a new pair, by way of the files.
func keys(t testing.TB) (ed25519.PrivateKey, ed25519.PublicKey, []byte) {
	t.Helper()
	private, public, err := NewKeys()
	must(t, err)
	priv, err := ParsePrivateKey(private)
	must(t, err)
	pub, err := ParsePublicKey(public)
	must(t, err)
	return priv, pub, public
}

func sample(now time.Time) Licence {
	now = now.UTC().Truncate(time.Second)
	return Licence{ID: uuid.New(), Holder: "Platform team", Seats: 2, Enforce: true, IssuedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour)}
}

func signedText(t testing.TB, l Licence, key ed25519.PrivateKey) []byte {
	t.Helper()
	text, err := Sign(l, key)
	must(t, err)
	return text
}

func TestSignAndParse(t *testing.T) {
	priv, pub, _ := keys(t)
	want := sample(time.Now())
	text := signedText(t, want, priv)
	got, err := Parse(text, pub)
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("licence (-want +got):\n%s", diff)
	}
	_, other, _ := keys(t)
	if _, err := Parse(text, other); !errors.Is(err, ErrForged) {
		t.Errorf("another key: %v", err)
	}
	// Every single bit that is turned is noticed.
	var f file
	must(t, json.Unmarshal(text, &f))
	for _, part := range [][]byte{f.Claims, f.Signature} {
		for i := range part {
			part[i] ^= 1
			forged, err := json.Marshal(f)
			must(t, err)
			if _, err := Parse(forged, pub); !errors.Is(err, ErrForged) {
				t.Errorf("byte %d: %v", i, err)
			}
			part[i] ^= 1
		}
	}
	// A signature of the bare claims was made for something else.
	f.Signature = ed25519.Sign(priv, f.Claims)
	bare, err := json.Marshal(f)
	must(t, err)
	if _, err := Parse(bare, pub); !errors.Is(err, ErrForged) {
		t.Errorf("without the preamble: %v", err)
	}
}

func TestSign_RefusesNonsense(t *testing.T) {
	priv, pub, _ := keys(t)
	for name, change := range map[string]func(*Licence){
		"no id":                 func(l *Licence) { l.ID = uuid.Nil },
		"no holder":             func(l *Licence) { l.Holder = " " },
		"a holder of two lines": func(l *Licence) { l.Holder = "a\nb" },
		"a long holder":         func(l *Licence) { l.Holder = strings.Repeat("x", maxHolder+1) },
		"negative seats":        func(l *Licence) { l.Seats = -1 },
		"nothing to enforce":    func(l *Licence) { l.Seats = 0 },
		"an end before it":      func(l *Licence) { l.ExpiresAt = l.IssuedAt },
	} {
		l := sample(time.Now())
		change(&l)
		if _, err := Sign(l, priv); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		claims, err := json.Marshal(l) // signed all the same
		must(t, err)
		text, err := json.Marshal(file{claims, ed25519.Sign(priv, signed(claims))})
		must(t, err)
		if _, err := Parse(text, pub); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s, signed: %v", name, err)
		}
	}
	for _, text := range []string{"", "{}", "null", `{"claims":"","signature":"","more":1}`, strings.Repeat(" ", maxFile+1), `{"claims":"e30="}{}`} {
		if _, err := Parse([]byte(text), pub); !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrForged) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

func TestParseKeys_RefuseTheOther(t *testing.T) {
	private, public, err := NewKeys()
	must(t, err)
	if _, err := ParsePublicKey(private); err == nil || strings.Contains(err.Error(), "MC4C") {
		t.Errorf("a private key as a public one: %v", err)
	}
	if _, err := ParsePrivateKey(public); err == nil {
		t.Error("a public key as a private one")
	}
	if _, err := ParsePublicKey(bytes.ReplaceAll(public, []byte("MC"), []byte("MD"))); err == nil {
		t.Error("a damaged key")
	}
}

func FuzzParse(f *testing.F) {
	priv, pub, _ := keys(f)
	genuine := signedText(f, sample(time.Now()), priv)
	f.Add(genuine)
	f.Add([]byte(`{"claims":"e30=","signature":""}`))
	f.Add([]byte("{}"))
	var original file
	must(f, json.Unmarshal(genuine, &original))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := Parse(text, pub)
		if err != nil {
			return
		}
		// Nothing but the genuine claims is ever accepted.
		var got file
		must(t, json.Unmarshal(text, &got))
		if !bytes.Equal(got.Claims, original.Claims) || l.check() != nil {
			t.Fatalf("accepted %s", got.Claims)
		}
	})
}

func FuzzParsePublicKey(f *testing.F) {
	_, public, err := NewKeys()
	must(f, err)
	f.Add(public)
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := ParsePublicKey(text); err == nil && len(k) != ed25519.PublicKeySize {
			t.Fatalf("a key of %d bytes", len(k))
		}
	})
}

// page is what a licence shows.
func page(w *Watched, active int) string {
	table := exposition.NewTable()
	b := table.NewBuilder(exposition.Names{})
	w.Fill(b, active)
	var text strings.Builder
	p := exposition.Page{Table: table, Sides: exposition.ServerPage, Rows: []*exposition.Row{b.Row()}}
	_ = p.Write(&text, exposition.Text)
	var lines []string
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, "coderd_license_") {
			lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), "coderd_license_"))
		}
	}
	return strings.Join(lines, ", ")
}

// TestWatched: from a licence to a better one, through a forged one and none, to
// its end.
func TestWatched(t *testing.T) {
	dir := t.TempDir()
	priv, _, public := keys(t)
	other, _, _ := keys(t)
	path, keyPath := filepath.Join(dir, "l"), filepath.Join(dir, "k")
	must(t, os.WriteFile(keyPath, public, 0o600))
	synctest.Test(t, func(t *testing.T) {
		write := func(text []byte) { t.Helper(); must(t, os.WriteFile(path, text, 0o600)) }
		l := sample(time.Now())
		write(signedText(t, l, priv))
		var log testtool.Buffer
		w, err := Open(Options{File: path, PublicKeyFile: keyPath, Log: slog.New(slog.NewTextHandler(&log, nil)), Registerer: prometheus.NewRegistry()})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		want := func(what, text string) {
			t.Helper()
			time.Sleep(readEvery + time.Second)
			synctest.Wait()
			if got := page(w, 2); got != text {
				t.Errorf("%s: %s, want %s; the log:\n%s", what, got, text, log.String())
			}
		}
		want("at first", "active_users 2, limit_users 2, user_limit_enabled 1")
		if err := w.MayAdd(2); !errors.Is(err, ErrNoSeat) {
			t.Errorf("a third of two: %v", err)
		}
		must(t, w.MayAdd(1))
		more := l
		more.Seats = 50
		write(signedText(t, more, priv))
		want("replaced", "active_users 2, limit_users 50, user_limit_enabled 1")
		write(signedText(t, l, other))
		want("forged", "active_users 2, limit_users 50, user_limit_enabled 1")
		must(t, os.Remove(path))
		want("gone", "active_users 2, limit_users 50, user_limit_enabled 1")
		if n := strings.Count(log.String(), "not replaced"); n != 2 {
			t.Errorf("%d complaints:\n%s", n, log.String())
		}
		more.Seats, more.Enforce = 0, false
		write(signedText(t, more, priv))
		want("without a limit", "active_users 2, user_limit_enabled 0")
		write(signedText(t, l, priv))
		time.Sleep(time.Hour)
		want("expired", "active_users 2, limit_users 2, user_limit_enabled 0")
		must(t, w.MayAdd(100))
		if n := strings.Count(log.String(), "has expired"); n != 1 {
			t.Errorf("%d warnings of the end:\n%s", n, log.String())
		}
		cancel()
		must(t, <-done)
	})
}

func TestOpen_Trouble(t *testing.T) {
	dir := t.TempDir()
	priv, _, public := keys(t)
	put := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, text, 0o600))
		return path
	}
	key := put("key", public)
	good := put("good", signedText(t, sample(time.Now()), priv))
	other, _, _ := keys(t)
	old := sample(time.Now().Add(-48 * time.Hour))
	for _, tc := range []struct{ name, file, key, want string }{
		{"a licence without a key", good, "", "--licence-public-key-file"},
		{"a key without a licence", "", key, "--licence-file"},
		{"no file", filepath.Join(dir, "none"), key, "no such file"},
		{"no key", good, filepath.Join(dir, "none"), "public key for licences"},
		{"the licence as the key", good, good, "PUBLIC KEY"},
		{"forged", put("forged", signedText(t, sample(time.Now()), other)), key, "does not fit the public key"},
		{"garbage", put("garbage", []byte("{")), key, "not a valid licence"},
	} {
		if _, err := Open(Options{File: tc.file, PublicKeyFile: tc.key}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want something about %q", tc.name, err, tc.want)
		}
	}
	w, err := Open(Options{File: put("old", signedText(t, old, priv)), PublicKeyFile: key})
	if err != nil || page(w, 1) != "active_users 1, limit_users 2, user_limit_enabled 0" {
		t.Errorf("expired at the start: %v", err)
	}
	none, err := Open(Options{})
	must(t, err)
	if none.Current() != nil || page(none, 1) != "" || none.MayAdd(1e6) != nil {
		t.Error("there is a licence")
	}
}
