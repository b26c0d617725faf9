package cli

import (
	"fmt"
	"io"
	"strings"
)

// The layout of help: columns, how long a name may be before its explanation
// begins on the next line, and what stands before and behind the name.
const (
	helpWidth  = 80
	maxNames   = 30
	helpIndent = "  "
	helpGap    = 4
)

// entry is a name with its explanation.
type entry struct{ name, text string }

func writeHelp(w io.Writer, n *node) {
	var b strings.Builder
	b.WriteString("Usage: " + n.synopsis() + "\n\n")
	if n.help != "" {
		writeWrapped(&b, "", n.help)
		b.WriteByte('\n')
	}
	var arguments, flags []entry
	for _, a := range n.args {
		arguments = append(arguments, entry{a.usage(), a.explanation()})
	}
	for at := n; at != nil; at = at.parent {
		var own []entry
		for _, o := range at.flags {
			if !o.hidden {
				own = append(own, entry{o.helpName(), o.explanation()})
			}
		}
		flags = append(own, flags...)
	}
	commands := n.leaves()
	writeEntries(&b, "Arguments", arguments)
	writeEntries(&b, "Flags", flags)
	writeEntries(&b, "Commands", commands)
	if n.parent == nil && len(commands) > 0 {
		fmt.Fprintf(&b, "Run \"%s <command> --help\" for more information on a command.\n", n.name)
	}
	_, _ = io.WriteString(w, strings.TrimRight(b.String(), "\n")+"\n") // nobody is left to tell
}

// synopsis is the shape of the command line of a node.
func (n *node) synopsis() string {
	root := n
	for root.parent != nil {
		root = root.parent
	}
	words := []string{root.name}
	if n.parent != nil {
		words = append(words, n.path())
	}
	if len(n.children) > 0 {
		return strings.Join(append(words, "<command>"), " ")
	}
	for _, o := range n.flags {
		if o.required {
			words = append(words, o.usage())
		}
	}
	for _, a := range n.args {
		words = append(words, a.usage())
	}
	return strings.Join(append(words, "[flags]"), " ")
}

// leaves are the commands below a node that do something.
func (n *node) leaves() []entry {
	var commands []entry
	for _, child := range n.children {
		if len(child.children) == 0 {
			commands = append(commands, entry{child.path(), child.help})
		}
		commands = append(commands, child.leaves()...)
	}
	return commands
}

func writeEntries(b *strings.Builder, title string, entries []entry) {
	if len(entries) == 0 {
		return
	}
	b.WriteString(title + ":\n")
	width := 0
	for _, e := range entries {
		if len(e.name) <= maxNames {
			width = max(width, len(e.name))
		}
	}
	margin := helpIndent + strings.Repeat(" ", width+helpGap)
	for _, e := range entries {
		head := helpIndent + e.name
		if len(e.name) > width || e.text == "" {
			b.WriteString(head + "\n")
			head = ""
		}
		var text strings.Builder
		writeWrapped(&text, margin, e.text)
		b.WriteString(head + text.String()[min(len(head), text.Len()):]) // the head is no longer than the margin
	}
	b.WriteByte('\n')
}

// writeWrapped writes text in lines that begin with the margin.
func writeWrapped(b *strings.Builder, margin, text string) {
	if text == "" {
		return
	}
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(margin)+len(line)+1+len(word) > helpWidth {
			b.WriteString(margin + line + "\n")
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	b.WriteString(margin + line + "\n")
}
