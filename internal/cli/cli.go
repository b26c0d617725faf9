// Package cli holds what the command lines of both programs have in common: a
// parser that fills a struct from its tags, flags with environment variables, and
// exit codes.
//
// The struct is the grammar. A field is a flag; with the tag arg it is an
// argument, with cmd a command, whose struct is a grammar again; an embedded
// struct adds its fields. The tags of flags and arguments:
//
//	name         instead of the field's name in kebab-case
//	short        one letter
//	help         one line; $$ is a dollar sign
//	envs         variables that the flag is taken from, the first one first
//	default      value of what is not given
//	placeholder  stands for the value in the help
//	enum         the values that are allowed, separated by commas
//	sep          separates the elements of a list, a comma if left out
//	required, optional, hidden
//	negatable    the flag has the opposite --no-name
//	passthrough  the argument takes everything that follows, flags too
//
// It calls no method by its name at run time, because a program that does so
// keeps every exported method of every library in it.
package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Exit codes.
const (
	OK     = 0
	Failed = 1
	Usage  = 2
)

// Parsed is a command line without mistakes; the grammar holds its values.
type Parsed struct {
	// Command is the struct of the command that was chosen; nil in a grammar
	// without commands.
	Command any
}

// Parse parses args into grammar, a pointer to a struct; a flag wins over its
// variables, and they win over the default. An empty variable is none. If there is
// nothing to run, because help was asked for or the usage was wrong, parsed is nil
// and code is the exit code.
func Parse(grammar any, name, description string, args []string, getenv func(string) string, stdout, stderr io.Writer) (parsed *Parsed, code int) {
	p := &parser{node: newModel(grammar, name, description)}
	err := p.parse(args, getenv)
	if p.help {
		writeHelp(stdout, p.node)
		return nil, OK
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, p.node.nameVariables(err.Error()))
		fmt.Fprintf(stderr, "Run \"%s --help\" for the commands and their flags.\n", name)
		return nil, Usage
	}
	if p.node.parent == nil {
		return &Parsed{}, OK
	}
	return &Parsed{Command: p.node.value.Interface()}, OK
}

var flagName = regexp.MustCompile(`--[a-z][a-z0-9-]*`)

// nameVariables names the variables of each flag of an error text, because a
// wrong value may have come from one of them.
func (n *node) nameVariables(text string) string {
	return flagName.ReplaceAllStringFunc(text, func(flag string) string {
		if o, _ := n.flag(flag[2:]); o != nil && len(o.envs) > 0 {
			return flag + " (" + strings.Join(o.envs, ", ") + ")"
		}
		return flag
	})
}
