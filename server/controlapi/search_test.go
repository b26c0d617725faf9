package controlapi

import (
	"strings"
	"testing"
)

func TestParseSearch(t *testing.T) {
	for _, c := range []struct {
		q    string
		want search
		err  string
	}{
		{q: ""},
		{q: "owner:me", want: search{owner: "me"}},
		{q: `owner:"me"`, want: search{owner: "me"}},
		{q: `  name:dev   owner:"ann" `, want: search{owner: "ann", name: "dev"}},
		{q: "dev", want: search{name: "dev"}},
		{q: "ann/dev", want: search{owner: "ann", name: "dev"}},
		{q: `"a b"`, want: search{name: "a b"}},
		{q: "status:running", err: `"status" is not a term`},
		{q: `name:"dev`, err: "has no end"},
		{q: strings.Repeat("x", maxQuery+1), err: "longer than"},
	} {
		got, err := parseSearch(c.q)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %+v, %v", c.q, got, err)
		}
	}
}

func FuzzParseSearch(f *testing.F) {
	f.Add(`owner:"me" name:x a/b`)
	f.Add(`"`)
	f.Fuzz(func(t *testing.T, q string) {
		s, err := parseSearch(q)
		if err == nil && len(s.owner)+len(s.name) > len(q) {
			t.Fatalf("%q became %+v", q, s)
		}
	})
}
