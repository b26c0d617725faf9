package cli

import (
	"fmt"
	"strings"
)

// FlagTable writes the visible flags of a grammar, or of one of its commands, as
// a Markdown table, for documents that tests compare with the program.
func FlagTable(grammar any, command string) string {
	n := newModel(grammar, "x", "")
	for _, child := range n.children {
		if child.name == command {
			n = child
		}
	}
	var b strings.Builder
	b.WriteString("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n")
	for _, f := range n.flags {
		if f.hidden || f.name == "help" {
			continue
		}
		var env []string
		for _, name := range f.envs {
			env = append(env, "`"+name+"`")
		}
		def := ""
		if f.def != "" {
			def = "`" + f.def + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", f.name, strings.Join(env, " "), def, strings.ReplaceAll(f.help, "|", "\\|"))
	}
	return b.String()
}
