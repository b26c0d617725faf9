package agentssh

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/internal/testtool"
)

// offer is what ssh-audit found a server to offer.
type offer struct {
	Kex []struct {
		Algorithm string `json:"algorithm"`
	} `json:"kex"`
	Enc []string `json:"enc"`
	Mac []string `json:"mac"`
}

// trusting returns the address of a listener whose connections are served as those
// of the tailnet are.
func (w *world) trusting() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			w.server.HandleTrusted(nc)
		}
	}()
	w.t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// TestServer_AuditIsClean lets ssh-audit look at both ways in.
func TestServer_AuditIsClean(t *testing.T) {
	program := testtool.Find(t, "ssh-audit")
	w := newWorld(t)
	for name, addr := range map[string]string{"keyed": w.addr, "tailnet": w.trusting()} {
		_, port, _ := net.SplitHostPort(addr)
		// The text has the verdicts. Its exit code counts warnings too, such as one
		// about a key exchange that is newer than the program.
		text, _ := testtool.Output(t, nil, program, "-n", "-p", port, "127.0.0.1")
		for _, section := range []string{"(kex)", "(key)", "(enc)", "(mac)"} {
			if !strings.Contains(text, section) {
				t.Fatalf("%s: the audit has no %s:\n%s", name, section, text)
			}
		}
		if strings.Contains(text, "[fail]") {
			t.Errorf("%s: the audit fails:\n%s", name, text)
		}
		out, _ := testtool.Output(t, nil, program, "-j", "-p", port, "127.0.0.1")
		var o offer
		if err := json.Unmarshal([]byte(out), &o); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		checkOffer(t, name, o)
	}
}

// checkOffer holds for what a verdict may be missing from.
func checkOffer(t *testing.T, name string, o offer) {
	t.Helper()
	var kex []string
	for _, k := range o.Kex {
		kex = append(kex, k.Algorithm)
	}
	want := []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519, "curve25519-sha256@libssh.org", "kex-strict-s-v00@openssh.com"}
	if !slices.Equal(kex, want) {
		t.Errorf("%s: key exchanges are %q, want %q", name, kex, want)
	}
	if len(o.Enc) == 0 || o.Enc[0] != ssh.CipherAES128GCM || !slices.Contains(o.Enc, ssh.CipherChaCha20Poly1305) {
		t.Errorf("%s: ciphers are %q", name, o.Enc)
	}
	for _, mac := range o.Mac {
		if !strings.HasPrefix(mac, "hmac-sha2-") || !strings.HasSuffix(mac, "-etm@openssh.com") {
			t.Errorf("%s: MAC %q is offered", name, mac)
		}
	}
}

// TestServer_EveryAlgorithmWorks has OpenSSH insist on each that is offered and it
// knows.
func TestServer_EveryAlgorithmWorks(t *testing.T) {
	w := newWorld(t)
	c := w.server.keyed
	for query, offered := range map[string][]string{"KexAlgorithms": c.KeyExchanges, "Ciphers": c.Ciphers, "MACs": c.MACs} {
		known := strings.Fields(w.tool(nil, nil, "ssh", "-Q", query).stdout)
		tried := 0
		for _, a := range offered {
			if !slices.Contains(known, a) {
				continue
			}
			tried++
			extra := []string{"-o", query + "=" + a}
			if query == "MACs" {
				extra = append(extra, "-o", "Ciphers=aes256-ctr") // the others bring their own
			}
			if got := w.ssh(extra, "echo", "in"); got.stdout != "in\n" {
				t.Errorf("%s %s: %+v", query, a, got)
			}
		}
		if tried == 0 {
			t.Errorf("OpenSSH knows none of %q", offered)
		}
	}
}
