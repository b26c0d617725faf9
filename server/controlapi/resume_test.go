package controlapi

import (
	"encoding/base64"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestResume(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	key, other := []byte("one key"), []byte("another key")
	want := resumeToken{peer: uuid.New(), agent: uuid.New(), user: uuid.New(), expires: now.Add(time.Hour)}
	text := signResume(key, want)
	got, err := parseResume(key, text, now)
	must(t, err)
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := parseResume(key, text, now.Add(time.Hour)); !errors.Is(err, errResumeExpired) {
		t.Errorf("expired: %v", err)
	}
	if _, err := parseResume(other, text, now); !errors.Is(err, errResumeInvalid) {
		t.Errorf("another key: %v", err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	must(t, err)
	for i := range raw {
		bad := append([]byte{}, raw...)
		bad[i] ^= 1
		if _, err := parseResume(key, base64.RawURLEncoding.EncodeToString(bad), now); !errors.Is(err, errResumeInvalid) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	for _, bad := range []string{"", "x", text[:len(text)-1], text + "A", text + "=", "ey." + text} {
		if _, err := parseResume(key, bad, now); !errors.Is(err, errResumeInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// FuzzResume: nothing passes that was not signed.
func FuzzResume(f *testing.F) {
	// Every process of the fuzzer has to find the same token good.
	key, now := []byte("key"), time.Unix(1_700_000_000, 0)
	good := signResume(key, resumeToken{peer: uuid.NameSpaceURL, expires: now.Add(time.Hour)})
	f.Add(good)
	f.Add("")
	f.Add(good[1:])
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := parseResume(key, text, now); err == nil && text != good {
			t.Fatalf("%q passed", text)
		}
	})
}
