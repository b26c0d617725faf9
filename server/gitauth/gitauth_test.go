package gitauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/internal/pgtest"
	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/server/catalog"
)

// cluster is the PostgreSQL server of this test binary.
var cluster pgtest.Cluster

func TestMain(m *testing.M) { cluster.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a service with a provider, and a person.
type world struct {
	*Service
	t        *testing.T
	db       *sqldb.DB
	fake     *fakeProvider
	provider *Provider
	user     uuid.UUID
	catalog  *catalog.Catalog
	reg      *prometheus.Registry
	log      testtool.Buffer
}

func onBoth(t *testing.T, kind string, test func(w *world)) {
	cluster.OnBoth(t, func(t *testing.T, dsn string) { test(newWorld(t, kind, dsn)) })
}

var testKey = []byte(strings.Repeat("k", KeySize))

func newWorld(t *testing.T, kind, dsn string) *world {
	t.Helper()
	w := &world{t: t, fake: newFakeProvider(t, kind), reg: prometheus.NewPedanticRegistry()}
	w.provider = w.fake.provider()
	var err error
	w.db, err = sqldb.Open(t.Context(), dsn)
	must(t, err)
	t.Cleanup(func() { w.db.Close() })
	w.catalog, err = catalog.Open(t.Context(), w.db, catalog.Options{})
	must(t, err)
	u, _, err := w.catalog.CreateUser(t.Context(), "ann", true)
	must(t, err)
	w.user = u.ID
	w.Service = w.open(testKey, w.reg)
	return w
}

func (w *world) options(key []byte, reg prometheus.Registerer) Options {
	return Options{Providers: []*Provider{w.provider}, Key: key, AccessURL: "https://hub.example/", Registerer: reg,
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

func (w *world) open(key []byte, reg prometheus.Registerer) *Service {
	w.t.Helper()
	s, err := Open(w.t.Context(), w.db, w.options(key, reg))
	must(w.t, err)
	w.t.Cleanup(s.Close)
	return s
}

// come logs in at the provider as a browser does, and returns what comes back.
func (w *world) come(user uuid.UUID) (state, nonce, code string) {
	w.t.Helper()
	address, nonce, err := w.Begin(user, w.provider)
	must(w.t, err)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(address)
	must(w.t, err)
	resp.Body.Close()
	client.CloseIdleConnections()
	back, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || back.Scheme+"://"+back.Host+back.Path != "https://hub.example/external-auth/"+w.provider.ID+"/callback" {
		w.t.Fatalf("%s: back to %s", resp.Status, back)
	}
	return back.Query().Get("state"), nonce, back.Query().Get("code")
}

func (w *world) linkAccount() {
	w.t.Helper()
	state, nonce, code := w.come(w.user)
	must(w.t, w.Finish(w.t.Context(), w.provider, state, nonce, code))
}

func (w *world) wantToken(want string) {
	w.t.Helper()
	got, err := w.Token(w.t.Context(), w.user, w.provider)
	if err != nil || string(got.Access) != want {
		w.t.Errorf("token %q, %v; want %q", string(got.Access), err, want)
	}
}

func (w *world) wantNotLinked() {
	w.t.Helper()
	if _, err := w.Token(w.t.Context(), w.user, w.provider); !errors.Is(err, ErrNotLinked) {
		w.t.Errorf("token: %v, want that none is linked", err)
	}
}

// age moves the end of the stored token.
func (w *world) age(left time.Duration) {
	w.t.Helper()
	l, err := w.load(w.t.Context(), w.user, w.provider.ID)
	must(w.t, err)
	l.obtained, l.expires = time.Now().Add(-time.Hour), time.Now().Add(left)
	_, err = w.replace(w.t.Context(), l)
	must(w.t, err)
}

// noSecrets: nothing secret is in the log, the database or an error.
func (w *world) noSecrets(texts ...string) {
	w.t.Helper()
	rows, err := w.db.Reader().QueryContext(w.t.Context(), `SELECT token FROM gitauth_links UNION ALL SELECT private FROM gitauth_ssh_keys`)
	must(w.t, err)
	defer rows.Close()
	for rows.Next() {
		var b []byte
		must(w.t, rows.Scan(&b))
		texts = append(texts, string(b))
	}
	for _, text := range append(texts, w.log.String()) {
		for _, secret := range []string{"access-", "refresh-", fakeSecret, "code-", "PRIVATE", "body of the answer"} {
			if strings.Contains(text, secret) {
				w.t.Errorf("%q is in %q", secret, text)
			}
		}
	}
}

func TestLogin(t *testing.T) {
	for _, kind := range []string{GitHub, GitLab, Generic} {
		onBoth(t, kind, func(w *world) {
			w.wantNotLinked()
			w.linkAccount()
			w.wantToken("access-2")
			w.wantToken("access-2")
			linked, err := w.Linked(t.Context(), w.user)
			if err != nil || linked[w.provider.ID].IsZero() {
				t.Errorf("linked: %v, %v", linked, err)
			}
			w.linkAccount() // again, maybe as somebody else
			w.wantToken("access-4")
			w.fake.set(func() { clear(w.fake.tokens) }) // revoked there
			w.validated = validated{}                   // a minute later
			w.wantNotLinked()
			w.linkAccount()
			must(t, w.Unlink(t.Context(), w.user, w.provider))
			w.wantNotLinked()
			w.noSecrets(fmt.Sprint(w.provider), fmt.Sprintf("%+v %#v", w.provider, *w.provider))
		})
	}
}

// TestLogin_BelongsToOneBrowser: neither another browser nor another login, nor a
// late one, can end what was begun.
func TestLogin_BelongsToOneBrowser(t *testing.T) {
	w := newWorld(t, GitHub, filepath.Join(t.TempDir(), "test.db"))
	state, nonce, code := w.come(w.user)
	_, otherNonce, _ := w.come(w.user)
	other := *w.provider
	other.ID = "other"
	for name, err := range map[string]error{
		"no nonce":         w.Finish(t.Context(), w.provider, state, "", code),
		"another browser":  w.Finish(t.Context(), w.provider, state, otherNonce, code),
		"another provider": w.Finish(t.Context(), &other, state, nonce, code),
		"changed":          w.Finish(t.Context(), w.provider, state[:len(state)-2]+"AA", nonce, code),
		"garbage":          w.Finish(t.Context(), w.provider, "%%%", nonce, code),
		"no state":         w.Finish(t.Context(), w.provider, "", nonce, code),
		"long":             w.Finish(t.Context(), w.provider, strings.Repeat("A", maxState+1), nonce, code),
	} {
		if !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, w.Finish(t.Context(), w.provider, state, nonce, code))
	if err := w.Finish(t.Context(), w.provider, state, nonce, code); !errors.Is(err, ErrProvider) {
		t.Errorf("the code a second time: %v", err)
	}
	if err := w.Finish(t.Context(), w.provider, state, nonce, ""); !errors.Is(err, ErrProvider) {
		t.Errorf("no code: %v", err)
	}
	state, nonce, code = w.come(uuid.New()) // who was deleted meanwhile
	if err := w.Finish(t.Context(), w.provider, state, nonce, code); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a person who is gone: %v", err)
	}
}

func TestDevice(t *testing.T) {
	w := newWorld(t, GitLab, filepath.Join(t.TempDir(), "test.db"))
	d, err := w.BeginDevice(t.Context(), w.provider)
	if err != nil || d.UserCode != "AB-CD" || d.Interval != 5 || time.Until(d.Expires) < 14*time.Minute {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := w.FinishDevice(t.Context(), w.user, w.provider, d.DeviceCode); !errors.Is(err, ErrNotLinked) {
		t.Errorf("before the person agreed: %v", err)
	}
	w.fake.set(func() { w.fake.codes[d.DeviceCode].Set("agreed", "") })
	must(t, w.FinishDevice(t.Context(), w.user, w.provider, d.DeviceCode))
	w.wantToken("access-1")
	if err := w.FinishDevice(t.Context(), w.user, w.provider, ""); !errors.Is(err, ErrState) {
		t.Errorf("no code: %v", err)
	}
}

// TestToken_IsRefreshedOnce: however many ask, on two replicas, one refresh token
// is used.
func TestToken_IsRefreshedOnce(t *testing.T) {
	onBoth(t, GitLab, func(w *world) {
		w.fake.lifetime = 2 * time.Hour
		w.linkAccount()
		w.wantToken("access-2") // good for a while
		w.age(time.Minute)
		replica := w.open(testKey, nil)
		var group sync.WaitGroup
		got := make([]string, 20)
		for i := range got {
			group.Go(func() {
				token, err := []*Service{w.Service, replica}[i%2].Token(t.Context(), w.user, w.provider)
				got[i] = fmt.Sprint(string(token.Access), err)
			})
		}
		group.Wait()
		if slices.Sort(got); got[0] != "access-3<nil>" || got[len(got)-1] != got[0] {
			t.Errorf("tokens: %q", got)
		}
		w.fake.set(func() {
			if w.fake.refreshing != 1 {
				t.Errorf("%d refreshes", w.fake.refreshing)
			}
		})
		w.noSecrets()
	})
}

// TestToken_RefreshGoesOnWithoutTheCaller: the old refresh token is used up, so the
// new one has to be stored.
func TestToken_RefreshGoesOnWithoutTheCaller(t *testing.T) {
	w := newWorld(t, GitHub, filepath.Join(t.TempDir(), "test.db"))
	w.fake.lifetime = 8 * time.Hour
	w.linkAccount()
	w.age(-time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	w.fake.set(func() {
		w.fake.misbehave = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				cancel() // the caller goes away in the middle
			}
			return false
		}
	})
	_, _ = w.Token(ctx, w.user, w.provider)
	w.wantToken("access-3")
}

func TestToken_WhenARefreshFails(t *testing.T) {
	for _, kind := range []string{GitHub, GitLab} {
		w := newWorld(t, kind, filepath.Join(t.TempDir(), "test.db"))
		w.fake.lifetime = 8 * time.Hour
		w.linkAccount()
		down := func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "the body of the answer, with access-2")
			return true
		}
		w.fake.set(func() { w.fake.misbehave = down })
		w.age(time.Minute)
		w.wantToken("access-2") // it still has a minute
		w.age(-time.Second)
		_, err := w.Token(t.Context(), w.user, w.provider)
		if !errors.Is(err, ErrProvider) || !strings.Contains(err.Error(), "503") {
			t.Errorf("%s: down: %v", kind, err)
		}
		w.noSecrets(err.Error())
		w.fake.set(func() { w.fake.misbehave = nil })
		w.wantToken("access-3") // it was not lost
		w.age(-time.Second)
		w.fake.set(func() { clear(w.fake.refreshes) })
		_, err = w.Token(t.Context(), w.user, w.provider)
		if !errors.Is(err, ErrNotLinked) {
			t.Errorf("%s: refused for good: %v", kind, err)
		}
		w.noSecrets(err.Error())
	}
}

// TestToken_WithoutRefresh: a token that ends and cannot be refreshed is gone then.
func TestToken_WithoutRefresh(t *testing.T) {
	w := newWorld(t, Generic, filepath.Join(t.TempDir(), "test.db"))
	w.linkAccount()
	w.age(time.Minute)
	w.wantToken("access-2")
	w.age(-time.Second)
	w.wantNotLinked()
	w.wantNotLinked()
}
