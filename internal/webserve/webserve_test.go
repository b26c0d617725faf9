package webserve

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/worktally/worktally/internal/testtool"
)

func TestMain(m *testing.M) { testtool.Main(m) }

func start(t *testing.T, o Options) (url string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, o) }()
	return "http://" + l.Addr().String(), func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("Serve goes on")
			return nil
		}
	}
}

func TestServe_UsersAndStop(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.good.yml")
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := "basic_auth_users:\n  scraper: " + string(hash) + "\n"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Validate(file); err != nil {
		t.Fatal(err)
	}
	url, stop := start(t, Options{ConfigFile: file, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "page")
	})})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for password, want := range map[string]int{"": http.StatusUnauthorized, "wrong": http.StatusUnauthorized, "secret": http.StatusOK} {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			r.SetBasicAuth("scraper", password)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("password %q: %d, want %d", password, resp.StatusCode, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServe_CutsRequestsThatDoNotEnd(t *testing.T) {
	entered := make(chan struct{})
	url, stop := start(t, Options{ShutdownTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		if resp, err := client.Get(url); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	if err := stop(); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestValidate_BadFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.bad.yml")
	if err := os.WriteFile(file, []byte("tls_server_config:\n  nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Validate(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Validate = %v", err)
	}
	if err := Validate(""); err != nil {
		t.Error(err)
	}
}
