package rollup

import (
	"math/bits"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/appname"
	"github.com/worktally/worktally/server/ledger"
)

const (
	// windowMinutes is how many minutes insights look back.
	windowMinutes = 5
	window        = windowMinutes * time.Minute
)

// applications are the names under which sessions are shown.
func applications() []string {
	return []string{"JetBrains", "SSH", "Visual Studio Code", "Web Terminal"}
}

// applicationOf returns the name for an app of the history. Forks of VS Code go
// under its name, as they do in the gauges of sessions and on a reference server,
// where they say they are VS Code; agent_open_sessions tells them apart.
func applicationOf(app string) string {
	switch appname.Gauge(appname.FamilyOf(app)) {
	case appname.VSCode:
		return "Visual Studio Code"
	case appname.JetBrains:
		return "JetBrains"
	case appname.ReconnectingPTY:
		return "Web Terminal"
	}
	return "SSH"
}

// usage collects the minutes of a window. A minute belongs to somebody's use of an
// application if a session was open at its first instant, so a window of five whole
// minutes, wherever it lies, never has a sixth.
type usage struct {
	// first is the window's first minute. The window ends with the last minute that
	// is over: its reports are in.
	first time.Time
	used  map[use]uint8 // bit m is the window's minute m
}

// use is one person's use of an application.
type use struct {
	owner         uuid.UUID
	template, app string
}

func newUsage(now time.Time) *usage {
	return &usage{first: now.UTC().Truncate(time.Minute).Add(-window), used: make(map[use]uint8)}
}

// add takes the minutes of a row that lie in the window. Agents and workspaces of
// one person and template are not told apart.
func (u *usage) add(h ledger.HistoryRow) {
	// The window's minute 0 is minute offset of the row's hour; it may be in the hour
	// before.
	offset := int(u.first.Sub(h.Hour) / time.Minute)
	for app, mask := range h.Minutes {
		switch {
		case offset >= 60 || offset <= -windowMinutes:
			continue
		case offset >= 0:
			mask >>= offset
		default:
			mask <<= -offset
		}
		if mask &= 1<<windowMinutes - 1; mask != 0 {
			u.used[use{h.OwnerID, h.TemplateName, applicationOf(app)}] |= uint8(mask)
		}
	}
}

// application is an application of a template.
type application struct{ template, app string }

// minutes returns the minutes of all people together.
func (u *usage) minutes() map[application]int {
	out := make(map[application]int)
	for k, mask := range u.used {
		out[application{k.template, k.app}] += bits.OnesCount8(mask)
	}
	return out
}

// users returns how many people used a template.
func (u *usage) users() map[string]int {
	type person struct {
		owner    uuid.UUID
		template string
	}
	seen := make(map[person]bool)
	out := make(map[string]int)
	for k := range u.used {
		if p := (person{k.owner, k.template}); !seen[p] {
			seen[p] = true
			out[k.template]++
		}
	}
	return out
}
