package controlapi

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter_FlowsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		const from = "192.0.2.1:1000"
		for range 3 * failureBurst {
			l.failed(from, "guess")
		}
		if l.allow(from, "x") || l.allow("192.0.2.1:2000", "x") {
			t.Error("an empty bucket allows")
		}
		if !l.allow("192.0.2.2:1000", "x") {
			t.Error("another address has to pay")
		}
		time.Sleep(failureEvery - time.Second)
		if l.allow(from, "x") {
			t.Error("allowed too early")
		}
		time.Sleep(time.Second)
		if !l.allow(from, "x") {
			t.Error("not allowed after the time of one failure")
		}
	})
}

func TestLimiter_GoodTokensPassUntilTheyFail(t *testing.T) {
	l := newLimiter()
	const from = "192.0.2.1:1000"
	for range failureBurst {
		l.failed(from, "guess")
	}
	l.succeeded("good")
	if !l.allow(from, "good") {
		t.Error("a token that was valid is stopped")
	}
	l.failed(from, "good")
	if l.allow(from, "good") {
		t.Error("a token that became invalid is let through")
	}
}

func TestLimiter_IsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter()
		for i := range 2 * maxAddresses {
			l.failed(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff), "guess")
			l.succeeded(fmt.Sprint(i))
		}
		if len(l.buckets) > maxAddresses || len(l.good) > maxGood {
			t.Errorf("%d addresses, %d tokens", len(l.buckets), len(l.good))
		}
		time.Sleep(failureBurst * failureEvery)
		l.failed("198.51.100.1:1", "guess") // makes room by dropping the full ones
		if len(l.buckets) != 1 {
			t.Errorf("%d addresses, want 1", len(l.buckets))
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
