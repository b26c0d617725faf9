package buildinfo

import (
	"runtime/debug"
	"testing"
)

func TestFrom_VersionIsSemver(t *testing.T) {
	revision := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}}
	for _, tc := range []struct {
		name, version, want string
		settings            []debug.BuildSetting
	}{
		{"released", "v1.2.3", "v1.2.3", revision},
		{"development", "(devel)", "v0.0.0-devel+0123456", revision},
		{"nothing known", "", "v0.0.0-devel", nil},
	} {
		got := from(&debug.BuildInfo{Main: debug.Module{Version: tc.version}, Settings: tc.settings})
		if got.Version != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got.Version, tc.want)
		}
	}
	if i := Get(); i.Version[0] != 'v' || i.GoVersion == "" || i.Revision == "" {
		t.Errorf("Get() = %+v", i)
	}
}
