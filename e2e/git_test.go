package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire"
)

// gitHost is a git provider: an OAuth 2 login that says yes, and repositories that
// demand the token which that gives.
type gitHost struct {
	*httptest.Server
	w        *world
	git      string
	refused  atomic.Int32 // requests without the token
	accepted atomic.Int32
}

const gitToken = "gho_e2eSecret"

func newGitHost(w *world) *gitHost {
	w.t.Helper()
	h := &gitHost{w: w, git: testtool.Find(w.t, "git")}
	w.must(exec.CommandContext(w.t.Context(), h.git, "init", "-q", "--bare", w.Path("repos", "repo.git")).Run())
	w.must(exec.CommandContext(w.t.Context(), h.git, "-C", w.Path("repos", "repo.git"), "config", "http.receivepack", "true").Run())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /authorize", func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		http.Redirect(rw, r, q.Get("redirect_uri")+"?"+url.Values{"code": {"e2e"}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
	})
	mux.HandleFunc("POST /token", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(rw, `{"access_token":%q,"token_type":"bearer"}`, gitToken)
	})
	mux.HandleFunc("GET /user", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("X-RateLimit-Limit", "60")
		for k, v := range map[string]string{"Resource": "core", "Remaining": "58", "Used": "2", "Reset": strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)} {
			rw.Header().Set("X-RateLimit-"+k, v)
		}
		if r.Header.Get("Authorization") != "Bearer "+gitToken {
			rw.WriteHeader(http.StatusUnauthorized)
		}
	})
	backend := &cgi.Handler{Path: h.git, Args: []string{"http-backend"}, Env: []string{"GIT_PROJECT_ROOT=" + w.Path("repos"), "GIT_HTTP_EXPORT_ALL=1"}}
	mux.HandleFunc("/repo.git/", func(rw http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "x-access-token" || password != gitToken {
			h.refused.Add(1)
			rw.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.accepted.Add(1)
		r.Header.Del("Authorization")
		backend.ServeHTTP(rw, r)
	})
	h.Server = httptest.NewServer(mux)
	w.t.Cleanup(h.Close)
	return h
}

// config is the server's configuration of the provider.
func (h *gitHost) config() string {
	h.w.write("client-secret", "s3cret\n")
	host := strings.ReplaceAll(strings.TrimPrefix(h.URL, "http://"), ".", `\.`)
	return h.w.write("providers.yaml", fmt.Sprintf("providers:\n  - id: e2e\n    type: github\n    client_id: worktally\n    client_secret_file: client-secret\n"+
		"    auth_url: %[1]s/authorize\n    token_url: %[1]s/token\n    validate_url: %[1]s/user\n    host_regex: '%[2]s'\n", h.URL, host))
}

// logIn does in a browser what the link says that git showed.
func (w *world) logIn(link string) {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	w.must(err)
	browser := &http.Client{Jar: jar}
	defer browser.CloseIdleConnections()
	resp, err := browser.PostForm(link, url.Values{"token": {w.server.Token}})
	w.must(err)
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	w.must(err)
	if resp.StatusCode != 200 || !strings.Contains(string(page), "is linked") {
		w.t.Fatalf("%s: %s", resp.Status, page)
	}
}

// TestGit_WithTheOwnersAccount: git in the workspace meets a host that demands
// credentials, the person follows the link that it shows, and git goes on; from
// then on nobody is asked.
func TestGit_WithTheOwnersAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := newGitHost(w)
	w.startServer("--external-auth-file", h.config())
	w.apply(spec("ws", ""))
	w.startAgent()
	const identity = "git -c user.name=e2e -c user.email=e2e@example.com "
	clone := w.SSHCommand(t.Context(), w.agent.SSH.Addr(), "git clone -q "+h.URL+"/repo.git work")
	var said testtool.Buffer
	clone.Stdout, clone.Stderr = &said, &said
	w.must(clone.Start())
	link := "http://" + w.server.Address + "/external-auth/e2e"
	w.await(patience, "git shows the link", func(context.Context) error {
		if !strings.Contains(said.String(), link) {
			return fmt.Errorf("it said %q", said.String())
		}
		return nil
	})
	w.logIn(link)
	if err := clone.Wait(); err != nil {
		t.Fatalf("git clone: %v: %s", err, said.String())
	}
	out, err := w.SSHCommand(t.Context(), w.agent.SSH.Addr(),
		"cd work && echo hello > file && git add file && "+identity+"commit -qm first && git push -q origin HEAD:main && git ls-remote").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refs/heads/main") {
		t.Fatalf("git push: %v: %s", err, out)
	}
	if h.refused.Load() == 0 || h.accepted.Load() == 0 {
		t.Errorf("%d requests without the token, %d with it", h.refused.Load(), h.accepted.Load())
	}
	w.awaitPage(patience, "the calls", func(p stack.Page) bool {
		return p.Sum("coderd_oauth2_external_requests_total", `name="e2e"`, `source="Exchange"`, `status_code="200"`) == 1 &&
			p.Sum("coderd_oauth2_external_requests_total", `source="ValidateToken"`) >= 1 &&
			p.Sum("coderd_oauth2_external_requests_rate_limit", `name="e2e"`, `resource="core"`) == 60
	})
	_, _, page, err := fetch(t.Context(), http.DefaultClient, "http://"+w.server.Page+"/metrics", func(*http.Request) {})
	w.must(err)
	if complaint := testtool.Lint(t, page); complaint != "" {
		t.Error(complaint)
	}
	for _, log := range []string{w.server.Log, w.agent.Log, w.server.Out} {
		if strings.Contains(w.read(log), gitToken) || strings.Contains(said.String(), gitToken) {
			t.Errorf("the token is in %s", log)
		}
	}
	// Unlinked, git is shown the link again.
	w.must(w.api(http.MethodDelete, "external-auth/e2e", nil))
	ctx, cancel := context.WithCancel(t.Context())
	again := w.SSHCommand(ctx, w.agent.SSH.Addr(), "-tt", "cd work && git ls-remote")
	var saidAgain testtool.Buffer
	again.Stdout, again.Stderr = &saidAgain, &saidAgain
	w.must(again.Start())
	w.await(patience, "git shows the link again", func(context.Context) error {
		if !strings.Contains(saidAgain.String(), link) {
			return fmt.Errorf("it said %q", saidAgain.String())
		}
		return nil
	})
	cancel()
	_ = again.Wait() // it was cut
}

// api asks the server as the administrator.
func (w *world) api(method, path string, out any) error {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.server.Address+"/api/worktally/v1/"+path, nil)
	w.must(err)
	req.Header.Set(wire.TokenHeader, w.server.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return errors.New(resp.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

// TestGit_WithTheOwnersSSHKey: the key that the server shows to the person opens
// the door for git in the workspace.
func TestGit_WithTheOwnersSSHKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	git := testtool.Find(t, "git")
	w.must(exec.CommandContext(t.Context(), git, "init", "-q", "--bare", w.Path("repos", "repo.git")).Run())
	w.startServer()
	w.apply(spec("ws", ""))
	w.startAgent()
	var key struct {
		PublicKey string `json:"public_key"`
	}
	w.must(w.api(http.MethodGet, "users/me/gitsshkey", &key))
	port := serveGitSSH(w, git, key.PublicKey)
	target := fmt.Sprintf("ssh://git@127.0.0.1:%s%s", port, w.Path("repos", "repo.git"))
	look := `GIT_SSH_COMMAND="$GIT_SSH_COMMAND -F /dev/null -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null" git ls-remote ` + target
	out, err := w.SSHCommand(t.Context(), w.agent.SSH.Addr(), look+" && echo fine").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "fine") {
		t.Fatalf("git ls-remote: %v: %s", err, out)
	}
	// With another key the door stays shut, and git says which key it was.
	w.must(w.api(http.MethodPut, "users/me/gitsshkey", &key))
	out, err = w.SSHCommand(t.Context(), w.agent.SSH.Addr(), look).CombinedOutput()
	if err == nil || !strings.Contains(string(out), key.PublicKey) {
		t.Errorf("with a new key: %v: %s", err, out)
	}
}

// serveGitSSH is a git host that lets one key in.
func serveGitSSH(w *world, git, public string) (port string) {
	w.t.Helper()
	allowed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	w.must(err)
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(allowed.Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	host, err := ssh.ParsePrivateKey([]byte(w.read(w.Path("key"))))
	w.must(err)
	config.AddHostKey(host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	done := make(chan struct{})
	w.t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serveGitConn(c, config, git)
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// serveGitConn runs what git asks for, one connection at a time.
func serveGitConn(c net.Conn, config *ssh.ServerConfig, git string) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		channel, requests, err := n.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			var command struct{ Text string }
			if r.Type != "exec" || ssh.Unmarshal(r.Payload, &command) != nil {
				_ = r.Reply(false, nil)
				continue
			}
			_ = r.Reply(true, nil)
			cmd := exec.Command("/bin/sh", "-c", strings.Replace(command.Text, "git-upload-pack", git+" upload-pack", 1))
			cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
			in, _ := cmd.StdinPipe()
			go func() { _, _ = io.Copy(in, channel); in.Close() }()
			status := byte(0)
			if cmd.Run() != nil {
				status = 1
			}
			_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, status})
			channel.Close()
		}
	}
}
