package agentssh

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/agentexec"
)

// keyOptions are those of sshd(8), and some that nobody has.
var keyOptions = []string{
	"agent-forwarding", "cert-authority", `command="echo no"`, `environment="A=b"`, `expiry-time="20300101"`, `from="192.0.2.0/24"`,
	"no-agent-forwarding", "no-port-forwarding", "no-pty", "no-user-rc", "no-X11-forwarding", `permitlisten="localhost:1"`,
	`permitopen="localhost:1"`, "port-forwarding", `principals="me"`, "pty", "no-touch-required", "verify-required", "restrict",
	"RESTRICT", `tunnel="0"`, "user-rc", "X11-forwarding", "unheard-of", `no-pty,command="a \" b"`, `from="a b",restrict`,
}

// TestParseAuthorizedKeys_EveryOptionRefuses: a key whose restriction is not kept
// would be worth more here than its owner was given.
func TestParseAuthorizedKeys_EveryOptionRefuses(t *testing.T) {
	signer, _ := newKey(t)
	line := string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	for _, option := range keyOptions {
		keys, warnings := ParseAuthorizedKeys([]byte("# one\n" + option + " " + line))
		name, _, _ := strings.Cut(strings.Split(option, ",")[0], "=")
		if len(keys) != 0 || len(warnings) != 1 || !strings.Contains(warnings[0].Error(), `line 2: key refused: option "`+name+`"`) {
			t.Errorf("%s: %d keys, %v", option, len(keys), warnings)
			continue
		}
		if _, value, _ := strings.Cut(option, `"`); value != "" && strings.Contains(warnings[0].Error(), value) {
			t.Errorf("the value is told: %v", warnings)
		}
	}
}

// TestServer_KeyWithOptionsIsRefused has OpenSSH try, before and after the option
// is gone.
func TestServer_KeyWithOptionsIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "authorized_keys")
	var log bytes.Buffer // written by one attempt at a time
	w := newWorld(t, func(o *Options, _ *agentexec.Options) {
		o.AuthorizedKeys = AuthorizedKeysFile(path, slog.New(slog.NewTextHandler(&log, nil)))
	})
	line := ssh.MarshalAuthorizedKey(w.signer.PublicKey())
	if err := os.WriteFile(path, append([]byte(`from="192.0.2.1" `), line...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.ssh(nil, "true"); got.code != 255 || !strings.Contains(got.stderr, "Permission denied") {
		t.Errorf("result = %+v", got)
	}
	if err := os.WriteFile(path, line, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.ssh(nil, "true"); got.code != 0 {
		t.Errorf("result = %+v", got)
	}
	text := log.String()
	if !strings.Contains(text, path) || !strings.Contains(text, `line 1: key refused: option \"from\" is not supported`) || strings.Contains(text, "192.0.2.1") {
		t.Errorf("log = %s", text)
	}
}

// FuzzParseAuthorizedKeys: a key comes only from a line that begins with its type,
// so that no form of option is overlooked.
func FuzzParseAuthorizedKeys(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHHHVcLAXCkPH6pmyBUtBGSHbRhBpvJsJCKQCbRAhHHs me\n"
	f.Add([]byte(key + "command=\"x\" ssh-rsa A\n"))
	f.Add([]byte("restrict\t" + key))
	f.Add([]byte("a\r" + key))
	f.Add([]byte("ssh-rsa " + key))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, warnings := ParseAuthorizedKeys(b)
		bare := make(map[string]int) // lines that begin with a type
		lines := 0
		for line := range bytes.Lines(b) {
			lines++
			if fields := bytes.Fields(line); len(fields) > 1 {
				bare[string(fields[0])]++
			}
		}
		if len(keys)+len(warnings) > lines {
			t.Fatalf("%d keys and %d warnings in %d lines", len(keys), len(warnings), lines)
		}
		for _, k := range keys {
			if isCertificate(k) {
				t.Fatal("a certificate was taken")
			}
			if bare[k.Type()]--; bare[k.Type()] < 0 {
				t.Fatalf("a %s came from a line that does not begin with it", k.Type())
			}
		}
	})
}
