package appname

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNormalize(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain", "vscode", "vscode"},
		{"upper case and dash", " VSCode-Insiders\n", "vscode_insiders"},
		{"empty", "", "unknown"},
		{"only control characters", "\x00\x1b", "unknown"},
		{"too long is cut at 64 runes", strings.Repeat("ä", 70), strings.Repeat("ä", 64)},
		{"cut leaves no trailing blank", strings.Repeat("a", 63) + "  b", strings.Repeat("a", 63)},
		{"invalid utf-8 is dropped", "cur\xffsor", "cursor"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Normalize(tc.in); got != tc.want {
				t.Errorf("Normalize(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestFamilyAndGauge(t *testing.T) {
	for _, tc := range []struct {
		name          string
		family, gauge Family
		label         string
	}{
		{"cursor", VSCode, VSCode, "cursor"},
		{"jetbrains", JetBrains, JetBrains, "jetbrains"},
		{"zed", SSH, SSH, "zed"},
		{"reconnecting_pty", ReconnectingPTY, ReconnectingPTY, "reconnecting_pty"},
		{"something else", Unknown, SSH, "unknown"},
	} {
		f := FamilyOf(tc.name)
		if f != tc.family || Gauge(f) != tc.gauge || Label(tc.name) != tc.label {
			t.Errorf("%s: family %s gauge %s label %s", tc.name, f, Gauge(f), Label(tc.name))
		}
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add("VS-Code")
	f.Add("\xff\x00")
	f.Fuzz(func(t *testing.T, s string) {
		n := Normalize(s)
		if n == "" || !utf8.ValidString(n) || utf8.RuneCountInString(n) > 64 {
			t.Fatalf("Normalize(%q) = %q", s, n)
		}
		if again := Normalize(n); again != n {
			t.Fatalf("Normalize is not idempotent: %q, then %q", n, again)
		}
	})
}
