// Package appname holds the rules by which both sides of the wire name the
// application behind a session, and sort it into a family (contract
// agent-api.md section 8.4).
package appname

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Family groups applications; the compatible gauges know only families.
type Family string

// The families. Unknown is everything without a name of its own.
const (
	SSH             Family = "ssh"
	VSCode          Family = "vscode"
	JetBrains       Family = "jetbrains"
	ReconnectingPTY Family = "reconnecting_pty"
	Unknown         Family = "unknown"
)

// UnknownName is the name of an application that gave none worth keeping.
const UnknownName = "unknown"

const maxRunes = 64

// Normalize brings a name that a client gave into the form that is counted and
// sent: control characters dropped, trimmed, at most 64 runes, lower case, "-"
// written "_". What is empty then is "unknown".
func Normalize(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, name)
	name = strings.TrimSpace(name)
	if utf8.RuneCountInString(name) > maxRunes {
		name = strings.TrimSpace(string([]rune(name)[:maxRunes]))
	}
	name = strings.ReplaceAll(strings.ToLower(name), "-", "_")
	if name == "" {
		return UnknownName
	}
	return name
}

// FamilyOf returns the family of a normalized name.
func FamilyOf(name string) Family {
	switch name {
	case "vscode", "vscode_insiders", "vscode_web", "code_server", "cursor", "windsurf", "positron",
		"vscodium", "codium", "antigravity", "trae", "kiro", "devin":
		return VSCode
	case "jetbrains":
		return JetBrains
	case "ssh", "zed", "sftp":
		return SSH
	case "reconnecting_pty":
		return ReconnectingPTY
	}
	return Unknown
}

// Label returns the name as it may stand in a label: a name of a known family,
// or "unknown". It bounds what clients can put on a metrics page.
func Label(name string) string {
	if FamilyOf(name) == Unknown {
		return UnknownName
	}
	return name
}

// Gauge returns which of the four compatible session gauges counts a session of
// the family: everything that is not vscode, jetbrains or reconnecting_pty is ssh.
func Gauge(f Family) Family {
	switch f {
	case VSCode, JetBrains, ReconnectingPTY:
		return f
	}
	return SSH
}
