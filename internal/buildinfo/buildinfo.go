// Package buildinfo says which build is running, from what the Go toolchain
// stamps into a binary.
package buildinfo

import (
	"runtime"
	"runtime/debug"
	"strings"
)

// Info describes a build.
type Info struct {
	// Version is semver with a leading v, which servers demand of agents.
	Version string
	// Revision is the commit, "unknown" if the build knows none.
	Revision  string
	GoVersion string
}

// Get returns the build that is running.
func Get() Info {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return Info{Version: "v0.0.0-devel", Revision: "unknown", GoVersion: runtime.Version()}
	}
	return from(bi)
}

func from(bi *debug.BuildInfo) Info {
	i := Info{Version: bi.Main.Version, Revision: "unknown", GoVersion: runtime.Version()}
	for _, s := range bi.Settings {
		if s.Key == "vcs.revision" {
			i.Revision = s.Value
		}
	}
	if !strings.HasPrefix(i.Version, "v") {
		i.Version = "v0.0.0-devel"
		if i.Revision != "unknown" {
			i.Version += "+" + i.Revision[:min(7, len(i.Revision))]
		}
	}
	return i
}
