package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/e2e/stack"
	"github.com/worktally/worktally/internal/testpki"
)

// secrets are what must appear nowhere, by what they are.
type secrets map[string]string

// add takes a secret in the forms in which it may be printed.
func (s secrets) add(what, text string) {
	s[what] = text
	s[what+" in hex"] = hex.EncodeToString([]byte(text))
	s[what+" in base64"] = strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(text)), "=")
}

// in says which secrets a text has.
func (s secrets) in(text []byte) (found []string) {
	for what, secret := range s {
		if bytes.Contains(text, []byte(secret)) {
			found = append(found, what)
		}
	}
	return found
}

// keyFile adds the secret half of a PEM file, a line of it, or a raw key.
func (s secrets) keyFile(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || len(text) < 32 {
		t.Fatalf("%s: %d bytes, %v", path, len(text), err)
	}
	if lines := strings.Split(string(text), "\n"); len(lines) > 3 && strings.HasPrefix(lines[0], "-----BEGIN") {
		text = []byte(lines[len(lines)-3]) // what comes before may be public
	}
	s.add(filepath.Base(path), string(text))
}

// places are texts in which there must be no secret, by where they are from.
type places map[string][]byte

// files adds those below a directory that others may come to see.
func (p places) files(t *testing.T, dir string, patterns ...string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		for _, pattern := range patterns {
			if ok, _ := filepath.Match(pattern, d.Name()); ok && d.Type().IsRegular() {
				p[path], err = os.ReadFile(path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// argv adds the arguments of the programs that run, and returns how many do.
func (p places) argv(pids ...int) (n int) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || len(text) == 0 {
			continue // it has ended
		}
		n++
		p[fmt.Sprintf("arguments of %d: %s", pid, bytes.ReplaceAll(text, []byte{0}, []byte{' '}))] = text
	}
	return n
}

// has says whether a place is called something with this.
func (p places) has(name string) bool {
	for place := range p {
		if strings.Contains(place, name) {
			return true
		}
	}
	return false
}

// children are the processes below one.
func children(pid int) (pids []int) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // none if it has ended
	for _, thread := range threads {
		text, _ := os.ReadFile(thread)
		for field := range strings.FieldsSeq(string(text)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err == nil {
				pids = append(append(pids, child), children(child)...)
			}
		}
	}
	return pids
}

// TestSecrets: tokens and private keys are in no argument of a process, log (with
// everything in it), audit log, metrics page, debug page or message of an error,
// whatever is done with them.
func TestSecrets(t *testing.T) {
	t.Parallel()
	debug, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	w, ca := startSecure(t, "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n", "--verbose", "--audit-log", "audit.jsonl")
	ca.Issue(t, "client")
	for _, prefix := range []string{"WORKTALLY", "WORKTALLY_AGENT"} {
		w.Env = append(w.Env, prefix+"_TLS_CLIENT_CERT_FILE="+w.Path("client.crt"), prefix+"_TLS_CLIENT_KEY_FILE="+w.Path("client.key"))
	}
	hidden, seen := secrets{}, places{}
	hidden.add("the administrator's token", w.server.Token)
	w.apply(spec("ws", "    scripts:\n      - {name: s, script: \"echo there\", on: start}\n"))
	hidden.add("the agent's first token", w.token)
	w.startAgent("--debug-address", debug, "--log-json", w.Path("agent.json.log"))
	w.awaitReport()
	fresh := strings.TrimSpace(w.cli("workspace", "rotate-token", "ws"))
	hidden.add("the agent's new token", fresh)
	person := strings.TrimSpace(w.cli("user", "create", "kim"))
	hidden.add("a person's token", person)
	shell := w.server.Command(t.Context(), "ssh", "-v", "ws", "--", "git ls-remote ssh://127.0.0.1:1/x; sleep 30")
	var said bytes.Buffer
	shell.Stderr, shell.Stdout = &said, &said
	w.must(shell.Start())
	w.await(patience, "the command runs in the workspace", func(context.Context) error {
		if seen.argv(children(w.agent.PID())...); !seen.has("sleep 30") {
			return errors.New("it is not below the agent")
		}
		return nil
	})
	if n := seen.argv(w.server.PID(), w.agent.PID(), shell.Process.Pid); n != 3 {
		t.Errorf("the arguments of %d programs were seen", n)
	}
	w.must(w.agent.SetToken(fresh))
	w.must(w.awaitDone(shell.Process.Kill, shell.Wait))
	seen["worktally ssh -v"] = said.Bytes()
	for name, c := range w.mistakes(person, ca) {
		out, err := c()
		if err == nil {
			t.Errorf("%s: no error: %s", name, out)
		}
		seen["errors: "+name] = out
	}
	w.awaitReport()
	for _, url := range []string{"http://" + w.server.Page + "/metrics", "http://" + w.server.Page + "/", "http://" + w.agent.Page + "/metrics", "http://" + w.agent.Page + "/",
		"http://" + debug + "/", "http://" + debug + "/debug/logs", "http://" + debug + "/debug/manifest", "http://" + debug + "/debug/magicsock"} {
		_, _, text, err := fetch(t.Context(), http.DefaultClient, url, func(*http.Request) {})
		w.must(err)
		seen[url] = []byte(text)
	}
	for _, key := range []string{"server.key", "client.key", "server/relay-key", "server/resume-key", "server/secrets-key"} {
		hidden.keyFile(t, w.Path(key))
	}
	w.must(w.agent.Stop(patience))
	w.must(w.server.Stop(patience))
	seen.files(t, w.Dir, "*.log", "audit.jsonl", "metrics-address", "*.json")
	for place, text := range seen {
		if found := hidden.in(text); len(found) > 0 {
			t.Errorf("%s: %q", place, found)
		}
	}
	// The places are what they should be.
	for place, has := range map[string]string{
		w.server.Log: "agent connected", w.Path("audit.jsonl"): "client_connected", w.Path("agent.json.log"): "session with the server",
		"http://" + w.server.Page + "/metrics": "worktally_agent_sessions", "http://" + debug + "/debug/manifest": "ws", "worktally ssh -v": "tailnet",
	} {
		if !bytes.Contains(seen[place], []byte(has)) {
			t.Errorf("%s has no %q: %.200s", place, has, seen[place])
		}
	}
	if len(hidden) < 27 || len(seen) < 20 {
		t.Errorf("only %d forms of secrets and %d places", len(hidden), len(seen))
	}
}

// awaitDone ends a command and waits for it; how it ended does not matter.
func (w *world) awaitDone(kill, wait func() error) error {
	time.AfterFunc(2*time.Second, func() { _ = kill() })
	_ = wait()
	return nil
}

// mistakes are commands that fail with a token in their hands.
func (w *world) mistakes(token string, ca *testpki.Authority) map[string]func() ([]byte, error) {
	run := func(env []string, args ...string) func() ([]byte, error) {
		return func() ([]byte, error) {
			cmd := w.server.Command(w.t.Context(), args...)
			cmd.Env = append(cmd.Env, append([]string{"WORKTALLY_TOKEN=" + token}, env...)...)
			return cmd.CombinedOutput()
		}
	}
	agent := func(args ...string) func() ([]byte, error) {
		return func() ([]byte, error) {
			p, err := w.Start("mistaken", nil, "worktally-agent", append([]string{"--agent-token-file", w.agent.TokenFile, "--prometheus-address", ""}, args...)...)
			if err != nil {
				return nil, err
			}
			if p.ExitCode() != 0 {
				err = errors.New("it failed")
			}
			text, errRead := os.ReadFile(p.Log)
			return text, errors.Join(err, errRead)
		}
	}
	return map[string]func() ([]byte, error){
		"nobody's workspace": run(nil, "ssh", "nobody/none"),
		"not allowed":        run(nil, "user", "list"),
		"no such flag":       run(nil, "user", "list", "--token", "x"),
		"no such server":     run([]string{"WORKTALLY_URL=https://127.0.0.1:1"}, "user", "list"),
		"bad server":         run([]string{"WORKTALLY_URL=https://" + token + "@127.0.0.1:x"}, "user", "list"),
		"key is no CA":       run([]string{"WORKTALLY_TLS_CA_FILE=" + w.Path("client.key")}, "user", "list"),
		"key is no cert":     run([]string{"WORKTALLY_TLS_CLIENT_CERT_FILE=" + w.Path("client.key")}, "user", "list"),
		"no such CA":         run([]string{"WORKTALLY_TLS_CA_FILE=" + testpki.New(w.t, w.Dir, uuid.NewString()).File}, "user", "list"),
		"agent without URL":  agent(),
		"agent, bad URL":     agent("--agent-url", "ftp://127.0.0.1"),
		"agent, bad CA":      agent("--agent-url", w.server.URL(), "--tls-ca-file", w.Path("client.key")),
		"agent, bad key":     agent("--agent-url", w.server.URL(), "--tls-client-cert-file", ca.File, "--tls-client-key-file", w.Path("client.key")),
	}
}
