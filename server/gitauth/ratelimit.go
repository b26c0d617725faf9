package gitauth

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxResources bounds the buckets of one provider; further ones are "other".
	maxResources = 32
	// unauthorized is appended to the bucket of answers 401, which providers count
	// by address.
	unauthorized = "-unauthorized"
	// maxReset bounds how far away a reset may be to be believed.
	maxReset = 366 * 24 * time.Hour
)

// resourcePattern is what the name of a bucket looks like.
var resourcePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// rateLimit is what a provider said last about one bucket. Nil is unknown.
type rateLimit struct {
	limit, remaining, used *float64
	reset                  *time.Time
}

// readRateLimit reads the headers of an answer, GitHub's or GitLab's. What is
// missing or garbage is unknown; ok is false if nothing is known.
func readRateLimit(h http.Header, status int, now time.Time) (resource string, l rateLimit, ok bool) {
	get := func(names ...string) string {
		for _, n := range names {
			if v := h.Get(n); v != "" {
				return v
			}
		}
		return ""
	}
	l.limit = count(get("X-RateLimit-Limit", "RateLimit-Limit"))
	l.remaining = count(get("X-RateLimit-Remaining", "RateLimit-Remaining"))
	l.used = count(get("X-RateLimit-Used", "RateLimit-Observed"))
	if s := count(get("X-RateLimit-Reset", "RateLimit-Reset")); s != nil {
		if at := time.Unix(int64(*s), 0); at.Sub(now).Abs() <= maxReset {
			l.reset = &at
		}
	}
	if l == (rateLimit{}) {
		return "", l, false
	}
	resource = get("X-RateLimit-Resource", "RateLimit-Name")
	switch {
	case resource == "":
		resource = "default"
	case !resourcePattern.MatchString(resource):
		resource = "other"
	}
	if status == http.StatusUnauthorized {
		resource += unauthorized
	}
	return resource, l, true
}

// count reads a whole number that a float holds exactly.
func count(text string) *float64 {
	n, err := strconv.ParseUint(text, 10, 53)
	if err != nil {
		return nil
	}
	v := float64(n)
	return &v
}

// bucket is what rate limits are told apart by.
type bucket struct{ name, resource string }

// rateLimits is a collector of what providers said last. It is safe for
// concurrent use.
type rateLimits struct {
	mu      sync.Mutex // guards what follows
	buckets map[bucket]rateLimit
	sizes   map[string]int // buckets by provider

	// hideDeprecated leaves out the family that has a replacement.
	hideDeprecated bool
}

func newRateLimits() *rateLimits {
	return &rateLimits{buckets: make(map[bucket]rateLimit), sizes: make(map[string]int)}
}

// note keeps what an answer said; what it did not say stays as it was.
func (r *rateLimits) note(name, resource string, l rateLimit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := bucket{name, resource}
	old, known := r.buckets[b]
	if !known && r.sizes[name] >= maxResources {
		b.resource = "other"
		old, known = r.buckets[b]
	}
	if !known {
		r.sizes[name]++
	}
	for _, f := range []struct{ from, to **float64 }{{&l.limit, &old.limit}, {&l.remaining, &old.remaining}, {&l.used, &old.used}} {
		if *f.from != nil {
			*f.to = *f.from
		}
	}
	if l.reset != nil {
		old.reset = l.reset
	}
	r.buckets[b] = old
}

// deprecatedFamily is the index of the family that has a replacement.
const deprecatedFamily = 1

// The families, without their common beginning.
func rateLimitFamilies() []struct{ suffix, help string } {
	return []struct{ suffix, help string }{
		{"", "Calls that the external git provider allows in an interval, as it said in its last answer."},
		{"_total", "Calls that the external git provider allows in an interval; deprecated, the same as the family without _total."},
		{"_remaining", "Calls that are left in the interval of the external git provider, as it said in its last answer."},
		{"_used", "Calls that were used in the interval of the external git provider, as it said in its last answer."},
		{"_next_reset_unix", "When the interval of the external git provider starts anew, in Unix seconds."},
		{"_reset_in_seconds", "Time until the interval of the external git provider starts anew, as of the scrape; 0 when it has."},
	}
}

func rateLimitDescs() []*prometheus.Desc {
	var list []*prometheus.Desc
	for _, f := range rateLimitFamilies() {
		list = append(list, prometheus.NewDesc("coderd_oauth2_external_requests_rate_limit"+f.suffix, f.help, []string{"name", "resource"}, nil))
	}
	return list
}

// Describe implements prometheus.Collector.
func (r *rateLimits) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range rateLimitDescs() {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (r *rateLimits) Collect(ch chan<- prometheus.Metric) {
	now, descs := time.Now(), rateLimitDescs()
	for _, s := range r.snapshot(now) {
		for i, v := range s.values {
			if v != nil && !(r.hideDeprecated && i == deprecatedFamily) {
				ch <- prometheus.MustNewConstMetric(descs[i], prometheus.GaugeValue, *v, s.name, s.resource)
			}
		}
	}
}

// values are those of one bucket, in the order of rateLimitFamilies.
type values struct {
	bucket
	values [6]*float64
}

func (r *rateLimits) snapshot(now time.Time) []values {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]values, 0, len(r.buckets))
	for b, l := range r.buckets {
		v := values{b, [6]*float64{l.limit, l.limit, l.remaining, l.used}}
		if l.reset != nil {
			at, left := float64(l.reset.Unix()), math.Max(0, l.reset.Sub(now).Seconds())
			v.values[4], v.values[5] = &at, &left
		}
		list = append(list, v)
	}
	return list
}
