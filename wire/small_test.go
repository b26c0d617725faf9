package wire_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/wire"
)

func unmarshalVector(t *testing.T, file string, m proto.Message) error {
	t.Helper()
	return proto.Unmarshal(vectors.Read(t, "rpc/"+file), m)
}

// TestVersion_Texts: the details are those of the recorded answers.
func TestVersion_Texts(t *testing.T) {
	server := wire.Version{Major: 2, Minor: 6}
	for _, tc := range []struct{ asked, file string }{
		{"3.0", "major-too-new"}, {"1.0", "major-too-old"}, {"2.99", "minor-too-new"}, {"abc", "version-garbage"},
	} {
		v, err := wire.ParseVersion(tc.asked)
		if err == nil {
			err = server.Accept(v)
		}
		if err == nil {
			t.Errorf("%s is accepted", tc.asked)
			continue
		}
		answer := string(vectors.Read(t, "http/errors/"+tc.file+"-response.txt"))
		if !strings.Contains(answer, `"detail":"`+err.Error()+`"`) {
			t.Errorf("%s: %q is not in the recorded answer %s", tc.asked, err, answer)
		}
	}
	for _, asked := range []string{"2.0", "2.6"} {
		v, err := wire.ParseVersion(asked)
		if err != nil || server.Accept(v) != nil || v.String() != asked {
			t.Errorf("%s: %v, %v", asked, v, err)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("2.6")
	f.Add("2.")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := wire.ParseVersion(s)
		if err == nil && (wire.Version{Major: 2, Minor: 13}).Accept(v) == nil && (v.Major != 2 || v.Minor < 0 || v.Minor > 13) {
			t.Errorf("%q is accepted as %v", s, v)
		}
	})
}

func TestTokenFrom_Order(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		prepare    func(*http.Request)
	}{
		{"none", "", func(*http.Request) {}},
		{"cookie", "c", func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: wire.TokenCookie, Value: "c"})
			r.Header.Set(wire.TokenHeader, "h")
		}},
		{"header", "h", func(r *http.Request) { r.Header.Set(wire.TokenHeader, "h") }},
		{"bearer", "b", func(r *http.Request) { r.Header.Set("Authorization", "Bearer b") }},
		{"query", "q", func(r *http.Request) {
			r.URL.RawQuery = "coder_session_token=q"
			r.Header.Set(wire.TokenHeader, "h")
		}},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		tc.prepare(r)
		if got := wire.TokenFrom(r); got != tc.want {
			t.Errorf("%s: %q", tc.name, got)
		}
	}
}
