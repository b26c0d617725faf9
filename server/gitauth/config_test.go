package gitauth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"
)

const goodConfig = `
providers:
  - {id: github, type: github, client_id: abc, client_secret_file: secret, scopes: [repo]}
  - id: ours
    type: gitlab
    display_name: Our GitLab
    client_id: def
    auth_url: https://git.example/oauth/authorize
    token_url: https://git.example/oauth/token
    validate_url: https://git.example/oauth/token/info
    host_regex: git\.example(:\d+)?
`

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "providers.yaml")
	must(t, os.WriteFile(path, []byte(goodConfig), 0o600))
	if _, err := ReadConfig(path); err == nil || !strings.Contains(err.Error(), "client_secret_file") {
		t.Errorf("without the secret: %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("s3cret\n"), 0o600))
	providers, err := ReadConfig(path)
	must(t, err)
	if p := providers[0]; p.secret != "s3cret" || p.TokenURL != "https://github.com/login/oauth/access_token" || p.DisplayName != "github" || !p.usesPKCE() {
		t.Errorf("%+v", p.ProviderConfig)
	}
	s := &Service{o: Options{Providers: providers}}
	for asked, want := range map[string]string{
		"github.com": "github", "https://github.com": "github", "https://me@GitHub.com/a/b.git": "github", "github.com/a/b": "github",
		"git.example": "ours", "git.example:8443": "ours", "http://git.example:8443/x": "ours",
		"github.com.evil.example": "", "evil-github.com": "", "https://evil.example/github.com": "", "https://evil.example?github.com": "",
		"https://github.com@evil.example": "", "evil.example#github.com": "", "githubXcom": "", "": "", "https://": "", "ssh://github.com": "", "%zz": "",
		"github.com\nx": "",
	} {
		got := ""
		if p := s.Match(asked); p != nil {
			got = p.ID
		}
		if got != want {
			t.Errorf("%q: %q, want %q", asked, got, want)
		}
	}
	if s.ByID("ours") != providers[1] || s.ByID("no") != nil {
		t.Error("by id")
	}
}

func TestReadConfig_Refuses(t *testing.T) {
	const head = "providers: [{id: a, type: generic, client_id: x, auth_url: 'https://x', token_url: 'https://x', host_regex: x"
	for text, want := range map[string]string{
		"providers: [{id: A, type: github, client_id: x}]":  "small letters",
		"providers: [{id: a, type: gitea, client_id: x}]":   `"gitea" is none of`,
		"providers: [{id: a, type: github}]":                "client_id is missing",
		"providers: [{id: a, type: generic, client_id: x}]": "token_url",
		head + ", auth_style: guess}]":                      "auth_style",
		head + "(}]":                                        "host_regex",
		head + ", validate_url: 'file:///etc/passwd'}]":     "validate_url",
		head + ", validate_url: 'https://u:p@x'}]":          "validate_url",
		head + ", secret: x}]":                              "secret not found",
		head + "}, {id: a, type: github, client_id: x}]":    "the id is taken",
		"{}\n---\n{}":  "follows",
		"providers: 1": "cannot unmarshal",
		"providers: [" + strings.Repeat("{id: a},", maxProviders+1) + "]": "at most",
		strings.Repeat("#", maxConfig+1):                                  "larger than",
	} {
		path := filepath.Join(t.TempDir(), "c.yaml")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if _, err := ReadConfig(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want something about %q", text, err, want)
		}
	}
	if c, err := ParseConfig(nil); err != nil || len(c.Providers) != 0 {
		t.Errorf("an empty file: %v", err)
	}
	if c, err := ParseConfig([]byte(`{"providers": [{"id": "j"}]}`)); err != nil || c.Providers[0].ID != "j" {
		t.Errorf("JSON: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(goodConfig)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseConfig([]byte(text))
		if err != nil {
			return
		}
		list, err := c.providers(func(string) (Secret, error) { return "s", nil })
		if err != nil {
			return
		}
		for _, p := range list {
			if !idPattern.MatchString(p.ID) || p.hosts == nil || p.TokenURL == "" {
				t.Fatalf("accepted %+v", p.ProviderConfig)
			}
		}
	})
}

func FuzzBox(f *testing.F) {
	b, err := newBox(testKey)
	must(f, err)
	f.Add(b.seal([]byte("secret"), "a"), "a")
	f.Fuzz(func(t *testing.T, sealed []byte, place string) {
		if secret, err := b.open(sealed, place); err == nil && string(secret) != "secret" {
			t.Fatalf("opened %q", secret)
		}
		again, err := b.open(b.seal(sealed, place), place)
		if err != nil || string(again) != string(sealed) {
			t.Fatalf("sealed and opened: %v", err)
		}
		if _, err := b.open(b.seal(sealed, place), place+"x"); err == nil {
			t.Fatal("opened elsewhere")
		}
	})
}

// TestOpen_AnotherKey: nothing could be opened, so it is refused at once.
func TestOpen_AnotherKey(t *testing.T) {
	onBoth(t, GitHub, func(w *world) {
		other := []byte(strings.Repeat("x", KeySize))
		if _, err := Open(t.Context(), w.db, w.options(other, nil)); err == nil || !strings.Contains(err.Error(), "--secrets-key-file") {
			t.Errorf("another key: %v", err)
		}
		if _, err := Open(t.Context(), w.db, w.options(other[1:], nil)); err == nil {
			t.Error("a short key")
		}
	})
}

func TestSSHKey(t *testing.T) {
	onBoth(t, GitHub, func(w *world) {
		var group sync.WaitGroup
		keys := make([]SSHKey, 8)
		for i := range keys {
			group.Go(func() {
				var err error
				keys[i], err = w.SSHKey(t.Context(), w.user)
				if err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, k := range keys {
			if k != keys[0] {
				t.Fatal("two keys were made")
			}
		}
		signer, err := ssh.ParsePrivateKey([]byte(keys[0].Private))
		must(t, err)
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(keys[0].Public))
		must(t, err)
		if string(signer.PublicKey().Marshal()) != string(public.Marshal()) || public.Type() != ssh.KeyAlgoED25519 || time.Since(keys[0].CreatedAt) > time.Minute {
			t.Errorf("the halves do not fit: %s", keys[0].Public)
		}
		w.noSecrets()
		renewed, err := w.RenewSSHKey(t.Context(), w.user)
		if again, _ := w.SSHKey(t.Context(), w.user); err != nil || renewed == keys[0] || again != renewed {
			t.Errorf("renewed: %v", err)
		}
		if _, err := w.SSHKey(t.Context(), uuid.New()); !errors.Is(err, ErrNoUser) {
			t.Errorf("a key for nobody: %v", err)
		}
		w.linkAccount()
		_, _, err = w.catalog.CreateUser(t.Context(), "boss", true)
		must(t, err)
		must(t, w.catalog.DeleteUser(t.Context(), "ann")) // and everything with her
		if _, err := w.SSHKey(t.Context(), w.user); !errors.Is(err, ErrNoUser) {
			t.Errorf("the key of who is gone: %v", err)
		}
		w.wantNotLinked()
	})
}

// TestTake_RefusesWhatGitWouldMisread: a token goes to git as a line.
func TestTake_RefusesWhatGitWouldMisread(t *testing.T) {
	w := newWorld(t, GitHub, filepath.Join(t.TempDir(), "test.db"))
	for _, token := range []string{"a\\nhost=evil", "a b", strings.Repeat("x", maxToken+1), "\\u00e9"} {
		w.fake.set(func() { w.fake.misbehave = answer(`{"access_token":"` + token + `","token_type":"bearer"}`) })
		address, nonce, err := w.Begin(w.user, w.provider)
		must(t, err)
		if err := w.Finish(t.Context(), w.provider, query(t, address, "state"), nonce, "code"); !errors.Is(err, ErrProvider) || !strings.Contains(err.Error(), errBadToken.Error()) {
			t.Errorf("%.20q: %v", token, err)
		}
	}
	for _, body := range []string{"", "{", "<html>", `{"access_token":""}`, `[]`, strings.Repeat("{", maxBody*2)} {
		w.fake.set(func() { w.fake.misbehave = answer(body) })
		address, nonce, err := w.Begin(w.user, w.provider)
		must(t, err)
		if err := w.Finish(t.Context(), w.provider, query(t, address, "state"), nonce, "code"); !errors.Is(err, ErrProvider) {
			t.Errorf("%.20q: %v", body, err)
		}
	}
	w.wantNotLinked()
}
