package main

import (
	"fmt"

	"github.com/worktally/worktally/internal/buildinfo"
)

// versionCmd is "worktally version".
type versionCmd struct{}

// Run prints version, revision and toolchain.
func (versionCmd) Run(p *program) error {
	b := buildinfo.Get()
	_, err := fmt.Fprintf(p.stdout, "worktally %s (revision %s, %s)\n", b.Version, b.Revision, b.GoVersion)
	return err
}
