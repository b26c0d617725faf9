package licence

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/worktally/worktally/exposition"
)

// readEvery is how often the file is looked at again.
const readEvery = time.Minute

// Options configure a Watched.
type Options struct {
	// File is the licence, PublicKeyFile the key of who signs licences. Both or
	// neither are given.
	File, PublicKeyFile string
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Registerer receives the metrics. Nil keeps them private.
	Registerer prometheus.Registerer
}

// Watched is a licence file that is read again when it changes. Its methods may
// be called concurrently, except for Run, of which there is one.
type Watched struct {
	o       Options
	key     ed25519.PublicKey
	log     *slog.Logger
	errors  prometheus.Counter
	current atomic.Pointer[Licence]
	text    []byte // of the last attempt; only Run uses it
}

// Open reads the licence. Without a file there is none, for ever. A file that is
// no licence is an error; one that has expired is not.
func Open(o Options) (*Watched, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	w := &Watched{o: o, log: o.Log, errors: promauto.With(o.Registerer).NewCounter(prometheus.CounterOpts{
		Name: "worktally_license_file_errors_total",
		Help: "Times at which the licence file had changed and was no licence, or could not be read; the last good one counts then.",
	})}
	if (o.File == "") != (o.PublicKeyFile == "") {
		return nil, errors.New("a licence needs a public key, and the other way round (--licence-file, --licence-public-key-file)")
	}
	if o.File == "" {
		return w, nil
	}
	text, err := readBounded(o.PublicKeyFile)
	if err == nil {
		w.key, err = ParsePublicKey(text)
	}
	if err != nil {
		return nil, fmt.Errorf("public key for licences %s: %w", o.PublicKeyFile, err)
	}
	if _, err := w.read(time.Now()); err != nil {
		return nil, err
	}
	return w, nil
}

// Current returns the licence, nil if there is none. It must not be changed.
func (w *Watched) Current() *Licence { return w.current.Load() }

// Run reads the file again when it changes, until the context ends. A file that
// is no licence leaves the last one as it was.
func (w *Watched) Run(ctx context.Context) error {
	if w.key == nil {
		<-ctx.Done()
		return nil
	}
	t := time.NewTicker(readEvery)
	defer t.Stop()
	expired := w.Current().Expired(time.Now())
	for {
		select {
		case now := <-t.C:
			changed, err := w.read(now)
			if err != nil && changed {
				w.errors.Inc()
				w.log.Error("the licence is not replaced", "err", err)
			}
			is := w.Current().Expired(now)
			if is && !expired && !changed {
				w.log.Warn("the licence has expired; its limit is not enforced any more", "holder", w.Current().Holder)
			}
			expired = is
		case <-ctx.Done():
			return nil
		}
	}
}

// read reads the file and reports whether it is another one than the last time.
func (w *Watched) read(now time.Time) (changed bool, err error) {
	text, err := readBounded(w.o.File)
	if err != nil {
		text = []byte(err.Error()) // which changes, or not, like a text
	}
	if changed = !bytes.Equal(text, w.text); !changed {
		return false, nil
	}
	w.text = text
	if err != nil {
		return true, fmt.Errorf("licence file: %w", err)
	}
	l, err := Parse(text, w.key)
	if err != nil {
		return true, fmt.Errorf("licence file %s: %w", w.o.File, err)
	}
	w.current.Store(&l)
	log := w.log.With("holder", l.Holder, "seats", l.Seats, "enforced", l.Enforced(now), "expires_at", l.ExpiresAt)
	if l.Expired(now) {
		log.Warn("the licence has expired; its limit is not enforced")
		return true, nil
	}
	log.Info("licence")
	return true, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Fill adds the families of the licence; active is how many people were active in
// the last 30 days.
func (w *Watched) Fill(b *exposition.Builder, active int) {
	l := w.Current()
	if l == nil {
		return
	}
	enabled := 0.0
	if l.Enforced(time.Now()) {
		enabled = 1
	}
	// The names are in the table, so none is refused.
	_ = b.Add("coderd_license_active_users", float64(active))
	_ = b.Add("coderd_license_user_limit_enabled", enabled)
	_ = b.Add("worktally_license_expiry_timestamp_seconds", float64(l.ExpiresAt.Unix()))
	if l.Seats > 0 {
		_ = b.Add("coderd_license_limit_users", float64(l.Seats))
	}
}

// ErrNoSeat: the licence is for as many people as are active already.
var ErrNoSeat = errors.New("the licence has no free seat")

// MayAdd returns ErrNoSeat if the licence forbids one more person besides those
// who are active.
func (w *Watched) MayAdd(active int) error {
	if l := w.Current(); l != nil && l.Enforced(time.Now()) && active >= l.Seats {
		return fmt.Errorf("%w: it is for %d people, and %d were active in the last 30 days", ErrNoSeat, l.Seats, active)
	}
	return nil
}
