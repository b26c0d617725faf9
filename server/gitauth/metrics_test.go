package gitauth

import (
	"flag"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/worktally/worktally/internal/docs"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

// series returns the values of the families whose name begins so, without the
// provider's name; times are rounded.
func (w *world) series() map[string]float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	must(w.t, err)
	got := make(map[string]float64)
	for _, f := range families {
		name, ok := strings.CutPrefix(f.GetName(), "coderd_oauth2_external_requests_")
		if !ok {
			continue
		}
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				if l.GetName() != "name" {
					key += " " + l.GetValue()
				}
			}
			got[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

func (w *world) wantSeries(want map[string]float64) {
	w.t.Helper()
	got := w.series()
	for key, v := range want {
		near := 2.0
		if strings.Contains(key, "reset") { // seconds, of which some have gone by
			near = 60
		}
		if g, ok := got[key]; v < 0 && ok || v >= 0 && (!ok || math.Abs(g-v) > near) {
			w.t.Errorf("%s: %v (there: %v), want %v", key, g, ok, v)
		}
	}
}

const none = -1 // no series

// ask makes one call that looks whether the token is good.
func (w *world) ask() {
	w.t.Helper()
	w.validated = validated{}
	_, _ = w.Token(w.t.Context(), w.user, w.provider)
}

// TestCalls_EveryAnswerCounts: contract metrics.md 2.8, and unlike the reference
// limits are read from every answer.
func TestCalls_EveryAnswerCounts(t *testing.T) {
	for kind, resource := range map[string]string{GitHub: "core", GitLab: "throttle_authenticated_api"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, kind, filepath.Join(t.TempDir(), "test.db"))
			w.wantSeries(map[string]float64{"total Exchange 200": 0, "total TokenSource 200": 0, "total ValidateToken 200": 0, "rate_limit " + resource: none})
			w.linkAccount()
			limit := map[string]float64{GitHub: 5000, GitLab: 600}[kind]
			w.wantSeries(map[string]float64{
				"total Exchange 200": 1, "total ValidateToken 200": 1,
				"rate_limit " + resource: limit, "rate_limit_total " + resource: limit, "rate_limit_used " + resource: 3, "rate_limit_remaining " + resource: limit - 3,
				"rate_limit_next_reset_unix " + resource: float64(time.Now().Add(resetIn).Unix()), "rate_limit_reset_in_seconds " + resource: resetIn.Seconds(),
			})
			for _, status := range []int{403, 429, 500, 302} {
				w.fake.set(func() {
					w.fake.misbehave = func(rw http.ResponseWriter, r *http.Request) bool {
						if r.URL.Path == "/elsewhere" {
							t.Error("a redirect was followed")
						}
						rw.Header().Set("Location", w.fake.URL+"/elsewhere")
						rw.WriteHeader(status)
						return true
					}
				})
				w.ask()
				w.wantSeries(map[string]float64{"total ValidateToken " + strconv.Itoa(status): 1})
				w.wantToken("access-2") // none of them says that it is not good
			}
			w.wantSeries(map[string]float64{"rate_limit_used " + resource + "-unauthorized": none})
			w.fake.set(func() { w.fake.misbehave = nil; clear(w.fake.tokens) })
			w.ask()
			w.wantSeries(map[string]float64{"total ValidateToken 401": 1, "rate_limit " + resource + "-unauthorized": limit})
			w.noSecrets()
		})
	}
}

func TestCalls_RedirectedExchange(t *testing.T) {
	w := newWorld(t, GitHub, filepath.Join(t.TempDir(), "test.db"))
	state, nonce, code := w.come(w.user)
	w.fake.set(func() {
		w.fake.misbehave = func(rw http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/token" {
				t.Errorf("asked for %s", r.URL)
			}
			http.Redirect(rw, r, w.fake.URL+"/elsewhere", http.StatusTemporaryRedirect) // which would carry the body along
			return true
		}
	})
	err := w.Finish(t.Context(), w.provider, state, nonce, code)
	if err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("redirected: %v", err)
	}
	w.wantSeries(map[string]float64{"total Exchange 307": 1})
}

// TestCalls_NoAnswer: refused, cut, and too slow.
func TestCalls_NoAnswer(t *testing.T) {
	w := newWorld(t, GitHub, filepath.Join(t.TempDir(), "test.db"))
	w.linkAccount()
	good := w.provider.ValidateURL
	w.provider.ValidateURL = "http://127.0.0.1:1"
	w.ask()
	w.wantSeries(map[string]float64{"total ValidateToken 0": 1})
	w.provider.ValidateURL = good
	w.fake.set(func() {
		w.fake.misbehave = func(rw http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) }
	})
	w.ask()
	before := w.series()["total ValidateToken 0"]
	if before < 2 { // the library may try again on a connection that was idle
		t.Errorf("%v calls without an answer", before)
	}
	w.noSecrets()
}

// TestCalls_SlowIsBounded: in the time of the test a provider that says nothing
// costs nothing.
func TestCalls_SlowIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		p := &Provider{ProviderConfig: ProviderConfig{ID: "slow", TokenURL: "http://slow.invalid/", AuthStyle: "params"}}
		silent := roundTripper(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		c := newCalls(reg, silent, []*Provider{p})
		began := time.Now()
		_, err := c.client(p, sourceValidate).Get("http://slow.invalid/?secret")
		if err == nil || time.Since(began) > callTimeout+time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		if text := plain(err).Error(); strings.Contains(text, "secret") {
			t.Errorf("the error shows the URL: %s", text)
		}
		w := &world{t: t, reg: reg}
		w.wantSeries(map[string]float64{"total ValidateToken 0": 1})
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestReadRateLimit: what is missing or garbage is not known, and no number is
// made up.
func TestReadRateLimit(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	shown := func(pairs string, status int) string {
		h := http.Header{}
		for _, pair := range strings.Split(pairs, "|") {
			name, value, _ := strings.Cut(pair, ":")
			h.Set(name, value)
		}
		resource, l, ok := readRateLimit(h, status, now)
		if !ok {
			return "nothing"
		}
		text := resource
		for _, v := range []*float64{l.limit, l.remaining, l.used} {
			if v == nil {
				text += " -"
				continue
			}
			text += fmt.Sprint(" ", *v)
		}
		if l.reset != nil {
			text += fmt.Sprint(" ", l.reset.Sub(now))
		}
		return text
	}
	for in, want := range map[string]string{
		"X-RateLimit-Limit:60|X-RateLimit-Remaining:59|X-RateLimit-Used:1|X-RateLimit-Reset:1800000060|X-RateLimit-Resource:core": "core 60 59 1 1m0s",
		"RateLimit-Limit:60|RateLimit-Remaining:59|RateLimit-Observed:1|RateLimit-Reset:1800000060|RateLimit-Name:throttle_x":     "throttle_x 60 59 1 1m0s",
		"X-RateLimit-Limit:60":                                               "default 60 - -",
		"X-RateLimit-Limit:sixty|X-RateLimit-Remaining:5":                    "default - 5 -",
		"X-RateLimit-Limit:-1|X-RateLimit-Reset:0":                           "nothing",
		"X-RateLimit-Limit:1e3|X-RateLimit-Remaining:NaN":                    "nothing",
		"X-RateLimit-Limit:99999999999999999999":                             "nothing",
		"X-RateLimit-Reset:60|X-RateLimit-Used:7":                            "default - - 7", // seconds, not a time
		"X-RateLimit-Used:7|X-RateLimit-Resource:a b":                        "other - - 7",
		"X-RateLimit-Used:7|X-RateLimit-Resource:" + strings.Repeat("x", 65): "other - - 7",
		"X-RateLimit-Resource:core":                                          "nothing",
		"Content-Type:text/plain":                                            "nothing",
	} {
		if got := shown(in, 200); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	if got := shown("X-RateLimit-Used:7|X-RateLimit-Resource:core", 401); got != "core-unauthorized - - 7" {
		t.Errorf("401: %s", got)
	}
}

func FuzzReadRateLimit(f *testing.F) {
	f.Add("60", "1800000060", "core", 401)
	f.Fuzz(func(t *testing.T, number, reset, resource string, status int) {
		h := http.Header{"X-Ratelimit-Limit": {number}, "X-Ratelimit-Reset": {reset}, "X-Ratelimit-Resource": {resource}}
		name, l, ok := readRateLimit(h, status, time.Unix(1_800_000_000, 0))
		if !ok {
			return
		}
		if l.limit != nil && (*l.limit < 0 || *l.limit != math.Trunc(*l.limit)) {
			t.Fatalf("limit %v", *l.limit)
		}
		if !resourcePattern.MatchString(strings.TrimSuffix(name, unauthorized)) {
			t.Fatalf("resource %q", name)
		}
	})
}

// TestRateLimits_CountDown: between calls, to 0 and not below, in bounded space.
func TestRateLimits_CountDown(t *testing.T) {
	r, now := newRateLimits(), time.Unix(1_800_000_000, 0)
	reset, one := now.Add(time.Minute), 1.0
	r.note("p", "core", rateLimit{reset: &reset})
	for after, want := range map[time.Duration]float64{0: 60, 45 * time.Second: 15, time.Minute: 0, time.Hour: 0} {
		if v := r.snapshot(now.Add(after))[0].values; *v[5] != want || *v[4] != float64(reset.Unix()) || v[0] != nil {
			t.Errorf("after %s: %v", after, v)
		}
	}
	r.note("p", "core", rateLimit{used: &one}) // says nothing about the rest
	if v := r.snapshot(now)[0].values; *v[3] != 1 || *v[5] != 60 {
		t.Errorf("an answer that says less: %v", v)
	}
	for i := range 10 * maxResources {
		r.note("p", fmt.Sprint("r", i), rateLimit{used: &one})
	}
	if n := len(r.buckets); n > maxResources+1 {
		t.Errorf("%d buckets", n)
	}
}

// TestDocs_Calls: the families of calls are in the document.
func TestDocs_Calls(t *testing.T) {
	w := newWorld(t, GitHub, filepath.Join(t.TempDir(), "test.db"))
	w.linkAccount()
	families, err := w.reg.Gather()
	must(t, err)
	if diff := cmp.Diff(7, len(families)); diff != "" {
		t.Errorf("families (-want +got):\n%s", diff)
	}
	docs.Section(t, "docs/metrics.md", "git providers", docs.Families(t, families), *update)
}

// TestRateLimits_DeprecatedFamily is there unless one does not want it.
func TestRateLimits_DeprecatedFamily(t *testing.T) {
	for hide, want := range map[bool]int{false: 2, true: 1} {
		r, limit := newRateLimits(), 5000.0
		r.hideDeprecated = hide
		r.note("git", "core", rateLimit{limit: &limit})
		reg := prometheus.NewRegistry()
		reg.MustRegister(r)
		families, err := reg.Gather()
		if err != nil || len(families) != want {
			t.Errorf("hidden %t: %v, %v", hide, families, err)
		}
	}
}
