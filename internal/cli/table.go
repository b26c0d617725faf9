package cli

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// FlagTable writes the visible flags of a grammar, or of one of its commands, as
// a Markdown table, for documents that tests compare with the program.
func FlagTable(grammar any, command string) string {
	parser, err := kong.New(grammar, kong.Name("x"))
	if err != nil {
		panic(fmt.Sprintf("BUG: command line: %v", err))
	}
	node := parser.Model.Node
	for _, child := range node.Children {
		if child.Name == command {
			node = child
		}
	}
	var b strings.Builder
	b.WriteString("| Flag | Environment | Default | Meaning |\n|---|---|---|---|\n")
	for _, f := range node.Flags {
		if f.Hidden || f.Name == "help" {
			continue
		}
		var env []string
		for _, name := range Variables(f.Value) {
			env = append(env, "`"+name+"`")
		}
		def := ""
		if f.HasDefault && f.Default != "" {
			def = "`" + f.Default + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s | %s |\n", f.Name, strings.Join(env, " "), def, strings.ReplaceAll(f.Help, "|", "\\|"))
	}
	return b.String()
}
