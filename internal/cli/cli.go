// Package cli is the command line of a program with commands: kong without the
// process, and flags with environment variables.
package cli

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/worktally/worktally/internal/exitcode"
)

// exited is what kong's exit hook panics with; Parse recovers it.
type exited int

// Parse parses args into grammar, whose flags name their environment variables
// in an envs tag; the flag wins, then the first variable that is set. If there is
// nothing to run, because help was asked for or the usage was wrong, parsed is nil
// and code is the exit code.
func Parse(grammar any, name, description string, args []string, getenv func(string) string, stdout, stderr io.Writer, options ...kong.Option) (parsed *kong.Context, code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exited)
			if !ok {
				panic(r)
			}
			parsed, code = nil, int(e)
		}
	}()
	parser, err := kong.New(grammar, append([]kong.Option{
		kong.Name(name),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(c int) { panic(exited(c)) }),
		kong.Resolvers(environment(getenv)),
		kong.ValueFormatter(helpWithEnvironment),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	}, options...)...)
	if err != nil {
		panic(fmt.Sprintf("BUG: command line: %v", err))
	}
	parsed, err = parser.Parse(args)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %s\n", name, nameVariables(parser, err.Error()))
		fmt.Fprintf(stderr, "Run \"%s --help\" for the commands and their flags.\n", name)
		return nil, exitcode.Usage
	}
	return parsed, exitcode.OK
}

var flagName = regexp.MustCompile(`--[a-z][a-z0-9-]*`)

// nameVariables names the variables of each flag of an error text, because a
// wrong value may have come from one of them.
func nameVariables(parser *kong.Kong, text string) string {
	variables := make(map[string][]string)
	// The visitor returns what its function returns, which never fails.
	_ = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			variables["--"+f.Name] = Variables(f.Value)
		}
		return next(nil)
	})
	return flagName.ReplaceAllStringFunc(text, func(flag string) string {
		if v := variables[flag]; len(v) > 0 {
			return flag + " (" + strings.Join(v, ", ") + ")"
		}
		return flag
	})
}

// environment resolves flags from the variables in their envs tag. (The parser's
// own env tag reads the process, which tests and embedders cannot replace.)
func environment(getenv func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, name := range Variables(flag.Value) {
			if v := getenv(name); v != "" {
				return v, nil
			}
		}
		return nil, nil
	})
}

// Variables returns the environment variables of a flag.
func Variables(v *kong.Value) []string {
	if tag := v.Tag.Get("envs"); tag != "" {
		return strings.Split(tag, ",")
	}
	return nil
}

// helpWithEnvironment names, behind the help of a flag, the default that its
// placeholder hides and its variables.
func helpWithEnvironment(v *kong.Value) string {
	var facts []string
	if v.HasDefault && v.Tag.PlaceHolder != "" {
		facts = append(facts, "default "+v.Default)
	}
	for _, name := range Variables(v) {
		facts = append(facts, "$"+name)
	}
	if len(facts) == 0 {
		return kong.DefaultHelpValueFormatter(v)
	}
	return fmt.Sprintf("%s (%s)", strings.TrimSuffix(kong.DefaultHelpValueFormatter(v), "."), strings.Join(facts, ", "))
}
