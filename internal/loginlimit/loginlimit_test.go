package loginlimit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

const (
	failureBurst = 20
	failureEvery = 10 * time.Second
	maxGood      = 1024
)

func TestLimiter_FlowsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Burst: failureBurst, Every: failureEvery, MaxGood: maxGood})
		const from = "192.0.2.1:1000"
		for range 3 * failureBurst {
			l.Failed(from, "guess")
		}
		if l.Allow(from, "x") || l.Allow("192.0.2.1:2000", "x") {
			t.Error("an empty bucket allows")
		}
		if !l.Allow("192.0.2.2:1000", "x") {
			t.Error("another address has to pay")
		}
		time.Sleep(failureEvery - time.Second)
		if l.Allow(from, "x") {
			t.Error("allowed too early")
		}
		time.Sleep(time.Second)
		if !l.Allow(from, "x") {
			t.Error("not allowed after the time of one failure")
		}
	})
}

func TestLimiter_GoodTokensPassUntilTheyFail(t *testing.T) {
	l := New(Options{Burst: failureBurst, Every: failureEvery, MaxGood: maxGood})
	const from = "192.0.2.1:1000"
	for range failureBurst {
		l.Failed(from, "guess")
	}
	l.Succeeded("good")
	if !l.Allow(from, "good") {
		t.Error("a token that was valid is stopped")
	}
	l.Failed(from, "good")
	if l.Allow(from, "good") {
		t.Error("a token that became invalid is let through")
	}
}

func TestLimiter_IsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Options{Burst: failureBurst, Every: failureEvery, MaxGood: maxGood})
		for i := range 2 * maxAddresses {
			l.Failed(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff), "guess")
			l.Succeeded(fmt.Sprint(i))
		}
		if l.buckets.Len() > maxAddresses || len(l.good) > maxGood {
			t.Errorf("%d addresses, %d tokens", l.buckets.Len(), len(l.good))
		}
	})
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80":          "192.0.2.1/32",
		"[::ffff:192.0.2.1]:80": "192.0.2.1/32",
		"[2001:db8::5%eth0]:80": "2001:db8::/64",
		"pipe":                  "invalid Prefix",
		"":                      "invalid Prefix",
	} {
		if got := network(in).String(); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
