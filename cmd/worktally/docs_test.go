package main

import (
	"flag"
	"testing"

	"github.com/worktally/worktally/internal/cli"
	"github.com/worktally/worktally/internal/docs"
)

var update = flag.Bool("update", false, "rewrite the flags in the README")

func TestReadme_ServerFlags(t *testing.T) {
	docs.Section(t, "README.md", "server flags", cli.FlagTable(&commands{}, "server"), *update)
}
