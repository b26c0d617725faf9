package gitauth

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// callTimeout bounds one call to a provider, with its body.
	callTimeout = 15 * time.Second
	// maxBody bounds what is read of an answer, in bytes.
	maxBody = 1 << 20
)

// Why a provider was called, as label source.
const (
	sourceExchange = "Exchange"
	sourceRefresh  = "TokenSource"
	sourceValidate = "ValidateToken"
	sourceDevice   = "AuthorizeDevice"
)

// calls counts calls to providers. It is safe for concurrent use.
type calls struct {
	requests *prometheus.CounterVec
	limits   *rateLimits
	base     http.RoundTripper
}

func newCalls(reg prometheus.Registerer, base http.RoundTripper, providers []*Provider) *calls {
	with := promauto.With(reg)
	c := &calls{base: base, limits: newRateLimits(), requests: with.NewCounterVec(prometheus.CounterOpts{
		Name: "coderd_oauth2_external_requests_total",
		Help: "Calls to external git providers, by provider, purpose and status; 0 if there was no answer.",
	}, []string{"name", "source", "status_code"})}
	if reg != nil {
		reg.MustRegister(c.limits)
	}
	for _, p := range providers {
		for _, source := range []string{sourceExchange, sourceRefresh, sourceValidate} {
			c.requests.WithLabelValues(p.ID, source, "200") // what is expected to be seen
		}
	}
	return c
}

// client is for calls to one provider for one purpose. It does not follow
// redirects: every call carries a secret, which is not for whoever is named there.
func (c *calls) client(p *Provider, source string) *http.Client {
	return &http.Client{
		Transport:     &counting{c, p.ID, source},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// counting counts what one client does.
type counting struct {
	*calls
	name, source string
}

// RoundTrip implements http.RoundTripper. The answer is read here, within its
// bounds: the library does not close the bodies of all answers.
func (t *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
	defer cancel()
	resp, err := t.base.RoundTrip(r.WithContext(ctx))
	if err != nil {
		t.requests.WithLabelValues(t.name, t.source, "0").Inc()
		return nil, err
	}
	t.requests.WithLabelValues(t.name, t.source, strconv.Itoa(resp.StatusCode)).Inc()
	if resource, l, ok := readRateLimit(resp.Header, resp.StatusCode, time.Now()); ok {
		t.limits.note(t.name, resource, l)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}
