package gitauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/oauth2"

	"github.com/worktally/worktally/internal/retry"
)

const (
	// refreshBefore is how long before its end a token is refreshed; never earlier
	// than in the last quarter of its life.
	refreshBefore = 5 * time.Minute
	// leaseTime is longer than a refresh can take.
	leaseTime = 30 * time.Second
	// leasePoll is how often who waits for somebody else's refresh looks again.
	leasePoll = 100 * time.Millisecond
	// validateEvery is how long a good token counts as good, maxValidated how many
	// are remembered.
	validateEvery, maxValidated = time.Minute, 4096
	// maxToken bounds a token, in bytes.
	maxToken = 8 << 10
)

// errBadToken: a token has characters that no token has, or is too long.
var errBadToken = errors.New("the provider gave a token that is none")

// Token returns a good token of a person for a provider. It is refreshed if it is
// about to end, and the provider is asked whether it is still good if there is a
// way to ask. A token that the provider does not know any more is forgotten: the
// error wraps ErrNotLinked then.
func (s *Service) Token(ctx context.Context, user uuid.UUID, p *Provider) (Token, error) {
	l, err := s.fresh(ctx, user, p)
	if err != nil {
		return Token{}, err
	}
	good, err := s.validate(ctx, p, l)
	if err != nil {
		// Whether it is good cannot be told now; git will find out.
		s.log.Warn("ask a git provider about a token", "provider", p.ID, "err", err)
	}
	if good {
		return l.asToken(), nil
	}
	s.log.Info("a git provider does not know a token any more; the account has to be linked again", "provider", p.ID, "user_id", user)
	if err := s.drop(ctx, l); err != nil {
		return Token{}, err
	}
	return Token{}, ErrNotLinked
}

// fresh returns a link whose token does not end soon.
func (s *Service) fresh(ctx context.Context, user uuid.UUID, p *Provider) (*link, error) {
	for {
		l, err := s.load(ctx, user, p.ID)
		if err != nil || !l.due(time.Now()) {
			return l, err
		}
		if l.token.Refresh == "" {
			if time.Now().Before(l.expires) {
				return l, nil
			}
			return nil, errors.Join(ErrNotLinked, s.drop(ctx, l))
		}
		mine, err := s.lease(ctx, l, time.Now())
		if err != nil {
			return nil, err
		}
		if mine {
			return s.refresh(ctx, p, l)
		}
		if err := retry.Sleep(ctx, leasePoll); err != nil {
			return nil, fmt.Errorf("wait for a refreshed token: %w", err)
		}
	}
}

// due says whether the token is to be refreshed.
func (l *link) due(now time.Time) bool {
	if l.expires.IsZero() {
		return false
	}
	return !now.Before(l.expires.Add(-min(refreshBefore, l.expires.Sub(l.obtained)/4)))
}

// refresh uses the refresh token; the caller has the lease. Once begun it goes on
// when the caller goes away: the old refresh token is gone, so the new one must
// be stored.
func (s *Service) refresh(ctx context.Context, p *Provider, l *link) (*link, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTime-5*time.Second)
	defer cancel()
	old := oauth2.Token{RefreshToken: l.token.Refresh}
	now := time.Now()
	t, err := p.oauth("").TokenSource(s.with(ctx, p, sourceRefresh), &old).Token()
	if err == nil {
		err = l.take(t, now)
	}
	if err == nil {
		stored, err := s.replace(ctx, l)
		switch {
		case err != nil:
			return nil, err
		case !stored: // it was linked anew, or unlinked
			return s.fresh(ctx, l.user, p)
		}
		l.revision++
		return l, nil
	}
	if refusedForGood(err) {
		s.log.Info("a git provider does not take a refresh token; the account has to be linked again", "provider", p.ID, "user_id", l.user, "err", plain(err))
		return nil, errors.Join(ErrNotLinked, s.drop(ctx, l))
	}
	failure := fmt.Errorf("%w: refresh a token of %s: %w", ErrProvider, p.ID, plain(err))
	if err := s.release(ctx, l); err != nil {
		return nil, errors.Join(failure, err)
	}
	if time.Now().Before(l.expires) {
		s.log.Warn("refresh a token", "provider", p.ID, "err", failure)
		return l, nil // it still has a while
	}
	return nil, failure
}

// take puts what a provider gave into the link. A provider that gives no new
// refresh token means the old one. A token that git could misunderstand is none.
func (l *link) take(t *oauth2.Token, now time.Time) error {
	for _, text := range []string{t.AccessToken, t.RefreshToken, t.TokenType} {
		if len(text) > maxToken || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errBadToken
		}
	}
	refresh := t.RefreshToken
	if refresh == "" {
		refresh = l.token.Refresh
	}
	l.token = sealedToken{Access: t.AccessToken, Refresh: refresh, Type: t.TokenType}
	l.obtained, l.expires = now, t.Expiry
	return nil
}

// with makes the library use our client.
func (s *Service) with(ctx context.Context, p *Provider, source string) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, s.calls.client(p, source))
}

// validate asks the provider whether a token is good. Only 401 says that it is
// not; 403 and 429 are limits, and everything else says nothing.
func (s *Service) validate(ctx context.Context, p *Provider, l *link) (good bool, err error) {
	if p.ValidateURL == "" || s.validated.recently(l) {
		return true, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.ValidateURL, nil)
	if err != nil {
		return true, plain(err)
	}
	r.Header.Set("Authorization", "Bearer "+l.token.Access)
	r.Header.Set("Accept", "application/json")
	resp, err := s.calls.client(p, sourceValidate).Do(r)
	if err != nil {
		return true, plain(err)
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return false, nil
	case resp.StatusCode != http.StatusOK:
		return true, fmt.Errorf("status %d", resp.StatusCode)
	}
	s.validated.note(l)
	return true, nil
}

// validated remembers which tokens were good a moment ago: git asks twice for each
// command. It is safe for concurrent use.
type validated struct {
	mu sync.Mutex // guards at
	at map[validatedKey]time.Time
}

type validatedKey struct {
	user     uuid.UUID
	provider string
	revision int64
}

func (v *validated) recently(l *link) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	at, known := v.at[validatedKey{l.user, l.provider, l.revision}]
	return known && time.Since(at) < validateEvery
}

func (v *validated) note(l *link) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.at == nil || len(v.at) >= maxValidated {
		v.at = make(map[validatedKey]time.Time) // they are asked about again
	}
	v.at[validatedKey{l.user, l.provider, l.revision}] = time.Now()
}

// codePattern is what the name of an OAuth error looks like (RFC 6749 section
// 5.2).
var codePattern = regexp.MustCompile(`^[a-z_]{1,64}$`)

// refusedForGood says whether a provider has answered that it never takes this
// token again.
func refusedForGood(err error) bool {
	e, ok := errors.AsType[*oauth2.RetrieveError](err)
	return ok && (e.ErrorCode == "invalid_grant" || e.ErrorCode == "bad_refresh_token")
}

// plain returns an error without what a provider has sent, or a URL: both may
// hold secrets.
func plain(err error) error {
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		text := fmt.Sprintf("status %d", e.Response.StatusCode)
		if codePattern.MatchString(e.ErrorCode) {
			text += ", " + e.ErrorCode
		}
		return errors.New(text)
	}
	if errors.Is(err, errBadToken) {
		return errBadToken
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err // without the URL
	}
	return errors.New("the answer could not be used")
}
