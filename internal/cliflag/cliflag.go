// Package cliflag fills a struct from a command line and from environment
// variables. It is for programs that must stay small: unlike a parser that calls
// methods by name it lets the linker drop what nothing uses.
//
// The fields name their flags in tags: name, envs (variables, the first that is
// set wins over the later ones and over the default), default, enum, placeholder,
// help, hidden. They are the tags of package cli.
package cliflag

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/spf13/pflag"

	"github.com/worktally/worktally/internal/exitcode"
)

// Program is what is told about a program in its help and its errors.
type Program struct{ Name, Description string }

// Parse fills the struct to which target points: the flag wins, then the
// variables, then the default. If there is nothing to run, because help was asked
// for or the usage was wrong, ok is false and code is the exit code.
func (p Program) Parse(target any, args []string, getenv func(string) string, stdout, stderr io.Writer) (code int, ok bool) {
	set := pflag.NewFlagSet(p.Name, pflag.ContinueOnError)
	set.SortFlags = false
	set.Usage = func() {}
	set.SetOutput(io.Discard)
	options := bind(set, target)
	err := set.Parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprintf(stdout, "Usage: %s [flags]\n\n%s\n\nFlags:\n%s", p.Name, p.Description, set.FlagUsages())
		return exitcode.OK, false
	case err == nil && set.NArg() > 0:
		err = fmt.Errorf("unexpected argument %s", set.Arg(0))
	case err == nil:
		err = complete(options, getenv)
	default:
		err = explain(err, options)
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nRun \"%s --help\" for the flags.\n", p.Name, err, p.Name)
		return exitcode.Usage, false
	}
	return exitcode.OK, true
}

// bind makes a flag of every field that has a name.
func bind(set *pflag.FlagSet, target any) []*option {
	var options []*option
	fields := reflect.ValueOf(target).Elem()
	for i := range fields.NumField() {
		tag := fields.Type().Field(i).Tag
		if tag.Get("name") == "" {
			continue
		}
		o := newOption(fields.Field(i), tag)
		f := set.VarPF(o, o.name, "", o.usage())
		f.Hidden = o.hidden
		if o.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
		options = append(options, o)
	}
	return options
}

// complete gives the flags that the command line does not have their variables or
// defaults, and checks choices.
func complete(options []*option, getenv func(string) string) error {
	for _, o := range options {
		if err := o.complete(getenv); err != nil {
			return fmt.Errorf("%s: %w", o.title(), err)
		}
		if err := o.checkChoice(); err != nil {
			return fmt.Errorf("%s %w", o.title(), err)
		}
	}
	return nil
}

// explain says it in our words, with the variables: a script may have set them.
func explain(err error, options []*option) error {
	if value, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		for _, o := range options {
			if o.name == value.GetFlag().Name {
				return fmt.Errorf("%s: %w", o.title(), value.Unwrap())
			}
		}
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && len(unknown.GetSpecifiedName()) > 1 {
		return fmt.Errorf("unknown flag --%s", unknown.GetSpecifiedName())
	}
	return errors.New(strings.Replace(err.Error(), "flag: --", "flag --", 1))
}
