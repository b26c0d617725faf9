package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// Version is a version of the agent API.
type Version struct{ Major, Minor int }

// The versions that matter (contract agent-api.md section 2).
const (
	// Major is the only major version.
	Major = 2
	// ServerMinor is the highest minor version our server accepts.
	ServerMinor = 13
)

func (v Version) String() string { return strconv.Itoa(v.Major) + "." + strconv.Itoa(v.Minor) }

// ParseVersion reads "major.minor".
func ParseVersion(s string) (Version, error) {
	major, minor, ok := strings.Cut(s, ".")
	if !ok || strings.Contains(minor, ".") {
		return Version{}, fmt.Errorf("invalid version string: %s", s)
	}
	v := Version{}
	var err error
	if v.Major, err = strconv.Atoi(major); err != nil {
		return Version{}, fmt.Errorf("invalid major version: %s", major)
	}
	if v.Minor, err = strconv.Atoi(minor); err != nil {
		return Version{}, fmt.Errorf("invalid minor version: %s", minor)
	}
	return v, nil
}

// Accept says whether a server of version v can serve a peer that asks for
// want. There is no negotiation beyond that.
func (v Version) Accept(want Version) error {
	switch {
	case want.Major > v.Major:
		return fmt.Errorf("server is at version %s, behind requested major version %s", v, want)
	case want.Major < v.Major:
		return fmt.Errorf("version %s is no longer supported", want)
	case want.Minor > v.Minor:
		return fmt.Errorf("server is at version %s, behind requested minor version %s", v, want)
	case want.Minor < 0:
		return fmt.Errorf("invalid minor version: %d", want.Minor)
	}
	return nil
}
