package gitauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/oauth2"
)

// LoginTime is how long a person may take to log in at a provider.
const LoginTime = 10 * time.Minute

// maxState bounds the state and the code that come back, in bytes.
const maxState = 4 << 10

// state is what travels to the provider and back, sealed: who logs in, where, and
// which browser has to come back.
type state struct {
	User     uuid.UUID `json:"user"`
	Provider string    `json:"provider"`
	Nonce    []byte    `json:"nonce"` // hash of what the browser keeps
	Verifier string    `json:"verifier,omitempty"`
	Ends     time.Time `json:"ends"`
}

const statePlace = "login"

// Path is where people link an account at a provider.
func Path(provider string) string { return "/external-auth/" + provider }

// LinkURL is where a person links an account at a provider.
func (s *Service) LinkURL(p *Provider) string {
	return strings.TrimSuffix(s.o.AccessURL, "/") + Path(p.ID)
}

func (s *Service) redirectURL(p *Provider) string { return s.LinkURL(p) + "/callback" }

// Begin starts a login: the address to which the browser goes, and a nonce that it
// has to bring back.
func (s *Service) Begin(user uuid.UUID, p *Provider) (address, nonce string, err error) {
	nonce = rand.Text()
	sum := sha256.Sum256([]byte(nonce))
	st := state{User: user, Provider: p.ID, Nonce: sum[:], Ends: time.Now().Add(LoginTime)}
	options := []oauth2.AuthCodeOption{}
	if p.usesPKCE() {
		st.Verifier = oauth2.GenerateVerifier()
		options = append(options, oauth2.S256ChallengeOption(st.Verifier))
	}
	text, err := json.Marshal(st)
	if err != nil {
		return "", "", fmt.Errorf("begin a login: %w", err)
	}
	sealed := base64.RawURLEncoding.EncodeToString(s.box.seal(text, statePlace))
	return p.oauth(s.redirectURL(p)).AuthCodeURL(sealed, options...), nonce, nil
}

// Finish ends a login with what came back, and links the account. Its errors wrap
// ErrState or ErrProvider.
func (s *Service) Finish(ctx context.Context, p *Provider, sealed, nonce, code string) error {
	st, err := s.openState(p, sealed, nonce)
	if err != nil {
		return err
	}
	if code == "" || len(code) > maxState {
		return fmt.Errorf("%w: there is no code", ErrProvider)
	}
	var options []oauth2.AuthCodeOption
	if st.Verifier != "" {
		options = append(options, oauth2.VerifierOption(st.Verifier))
	}
	ctx = context.WithoutCancel(ctx) // the code works once; the call is bounded
	now := time.Now()
	t, err := p.oauth(s.redirectURL(p)).Exchange(s.with(ctx, p, sourceExchange), code, options...)
	return s.link(ctx, st.User, p, t, now, err)
}

// link stores a token that a person got.
func (s *Service) link(ctx context.Context, user uuid.UUID, p *Provider, t *oauth2.Token, now time.Time, err error) error {
	l := &link{user: user, provider: p.ID}
	if err == nil {
		err = l.take(t, now)
	}
	if err != nil {
		return fmt.Errorf("%w: get a token of %s: %w", ErrProvider, p.ID, plain(err))
	}
	good, err := s.validate(ctx, p, l)
	if err != nil {
		s.log.Warn("ask a git provider about a new token", "provider", p.ID, "err", err)
	}
	if !good {
		return fmt.Errorf("%w: %s does not take the token that it has just given", ErrProvider, p.ID)
	}
	// What was validated has no revision yet.
	if err := s.save(ctx, l); err != nil {
		return err
	}
	s.log.Info("account linked", "provider", p.ID, "user_id", user)
	return nil
}

func (s *Service) openState(p *Provider, sealed, nonce string) (state, error) {
	var st state
	if len(sealed) > maxState || nonce == "" {
		return st, ErrState
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return st, ErrState
	}
	text, err := s.box.open(raw, statePlace)
	if err != nil || json.Unmarshal(text, &st) != nil {
		return st, ErrState
	}
	sum := sha256.Sum256([]byte(nonce))
	if subtle.ConstantTimeCompare(sum[:], st.Nonce) != 1 || st.Provider != p.ID || time.Now().After(st.Ends) {
		return st, ErrState
	}
	return st, nil
}

// Device is a login on another machine.
type Device struct {
	// UserCode is what the person types at VerificationURI.
	UserCode        string `json:"user_code"`
	VerificationURI string `json:"verification_uri"`
	// DeviceCode stands for the login. It is a secret of the person's.
	DeviceCode string `json:"device_code"`
	// Interval is how long to wait between questions, in seconds.
	Interval int64     `json:"interval"`
	Expires  time.Time `json:"expires_at"`
}

// BeginDevice starts a login on another machine.
func (s *Service) BeginDevice(ctx context.Context, p *Provider) (Device, error) {
	if p.DeviceURL == "" {
		return Device{}, fmt.Errorf("%w: %s has no login by device", ErrProvider, p.ID)
	}
	d, err := p.oauth("").DeviceAuth(s.with(ctx, p, sourceDevice))
	if err != nil {
		return Device{}, fmt.Errorf("%w: begin a login by device at %s: %w", ErrProvider, p.ID, plain(err))
	}
	return Device{UserCode: d.UserCode, VerificationURI: d.VerificationURI, DeviceCode: d.DeviceCode, Interval: max(d.Interval, 5), Expires: d.Expiry}, nil
}

// FinishDevice asks once whether the person has logged in, and links the account
// then. Its error wraps ErrNotLinked while the person has not.
func (s *Service) FinishDevice(ctx context.Context, user uuid.UUID, p *Provider, deviceCode string) error {
	if p.DeviceURL == "" || deviceCode == "" || len(deviceCode) > maxState {
		return fmt.Errorf("%w: there is no such login", ErrState)
	}
	ctx = context.WithoutCancel(ctx) // the code works once; the call is bounded
	now := time.Now()
	// The library's own way waits for the person; here the client does.
	t, err := p.oauth("").Exchange(s.with(ctx, p, sourceExchange), "", oauth2.SetAuthURLParam("device_code", deviceCode),
		oauth2.SetAuthURLParam("client_id", p.ClientID), oauth2.SetAuthURLParam("grant_type", "urn:ietf:params:oauth:grant-type:device_code"))
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		switch e.ErrorCode {
		case "authorization_pending", "slow_down":
			return fmt.Errorf("%w: %s", ErrNotLinked, e.ErrorCode)
		case "access_denied":
			return ErrRefused
		case "expired_token":
			return ErrState
		}
	}
	return s.link(ctx, user, p, t, now, err)
}
