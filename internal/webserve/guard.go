package webserve

import (
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"
)

// nobodysHash is compared with the password of an unknown user, so that the time
// an answer takes does not tell who is known. The password was random.
const nobodysHash = "$2a$10$9lOHyLYiQMmijMd6Zy78B.rTK80ulH.QigT52g7OObtGxcZXLVLJq"

// maxVerified bounds the passwords that are remembered.
const maxVerified = 64

// errUsers says what is wrong with a file that has users where none can sign in.
var errUsers = errors.New("basic_auth_users: nobody here can send a user's password")

// guard lets those pass whom the web config file allows. The file is read at every
// request: a change of it needs no restart, and a mistake in it lets nobody in.
type guard struct {
	next    http.Handler
	file    string
	limiter *rate.Limiter // nil without a limit
	noUsers bool          // users in the file are a mistake
	log     *slog.Logger
	// hashing has a place for one comparison at a time, because it costs a core.
	hashing chan struct{}

	mu       sync.Mutex // guards verified
	verified map[[sha256.Size]byte]struct{}
}

func newGuard(next http.Handler, file string, limit rateLimit, log *slog.Logger) *guard {
	g := &guard{next: next, file: file, log: log, hashing: make(chan struct{}, 1), verified: make(map[[sha256.Size]byte]struct{})}
	if limit.Interval > 0 {
		g.limiter = rate.NewLimiter(rate.Every(time.Duration(limit.Interval)), limit.Burst)
	}
	return g
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if g.limiter != nil && !g.limiter.Allow() {
		http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
		return
	}
	c, err := load(g.file)
	if err == nil && g.noUsers && len(c.Users) > 0 {
		err = errUsers
	}
	if err != nil {
		g.log.Error("web config file", "path", g.file, "err", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	for name, value := range c.HTTP.Headers {
		w.Header().Set(name, value)
	}
	if len(c.Users) > 0 && !g.allowed(r, c.Users) {
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
		return
	}
	g.next.ServeHTTP(w, r)
}

// allowed says whether the request has the name and the password of a user.
func (g *guard) allowed(r *http.Request, users map[string]string) bool {
	name, password, ok := r.BasicAuth()
	if !ok {
		return false
	}
	hash, known := users[name]
	if !known {
		hash = nobodysHash
	}
	sum := sha256.Sum256([]byte(hash + "\x00" + password))
	g.mu.Lock()
	_, verified := g.verified[sum]
	g.mu.Unlock()
	if verified {
		return known
	}
	select {
	case g.hashing <- struct{}{}:
		defer func() { <-g.hashing }()
	case <-r.Context().Done():
		return false
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.verified) >= maxVerified {
		clear(g.verified)
	}
	g.verified[sum] = struct{}{}
	return true
}
