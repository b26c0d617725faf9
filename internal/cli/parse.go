package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// parser walks the arguments once, from left to right.
type parser struct {
	node *node // the command that was reached
	args []string
	next int // argument of the node that comes next
	help bool
}

// parse fills the grammar. It stops where help is asked for.
func (p *parser) parse(args []string, getenv func(string) string) error {
	p.args = args
	for len(p.args) > 0 && !p.help {
		if err := p.step(); err != nil {
			return err
		}
	}
	if p.help {
		return nil
	}
	return p.finish(getenv)
}

func (p *parser) step() error {
	word := p.args[0]
	if a := p.argument(); a != nil && a.passthrough && (word == "--" || word == "-" || !strings.HasPrefix(word, "-")) {
		return p.rest(a)
	}
	p.args = p.args[1:]
	switch {
	case word == "--":
		for len(p.args) > 0 {
			word, p.args = p.args[0], p.args[1:]
			if err := p.positional(word); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(word, "--"):
		return p.long(word[2:])
	case len(word) > 1 && word[0] == '-':
		return p.shorts(word[1:])
	}
	return p.positional(word)
}

// argument returns the argument that the next word is, nil if there is none.
func (p *parser) argument() *option {
	if p.next < len(p.node.args) {
		return p.node.args[p.next]
	}
	return nil
}

// rest gives an argument everything that is left.
func (p *parser) rest(a *option) error {
	words := p.args
	p.args = nil
	for _, word := range words {
		if err := a.add(word); err != nil {
			return fmt.Errorf("%s: %w", a.usage(), err)
		}
	}
	return nil
}

func (p *parser) positional(word string) error {
	if a := p.argument(); a != nil {
		if !a.isList() {
			p.next++
		}
		if err := a.add(word); err != nil {
			return fmt.Errorf("%s: %w", a.usage(), err)
		}
		return nil
	}
	var names []string
	for _, child := range p.node.children {
		if child.name == word {
			p.node, p.next = child, 0
			return nil
		}
		names = append(names, child.name)
	}
	return fmt.Errorf("unexpected argument %s%s", word, didYouMean(word, names))
}

// long takes a flag such as name, name=value or no-name.
func (p *parser) long(word string) error {
	name, value, hasValue := strings.Cut(word, "=")
	o, negated := p.node.flag(name)
	if o == nil {
		return fmt.Errorf("unknown flag --%s%s", name, didYouMean("--"+name, p.node.flagNames()))
	}
	if negated && hasValue {
		return fmt.Errorf("--%s takes no value", name)
	}
	if negated {
		value, hasValue = "false", true
	}
	return p.take(o, value, hasValue)
}

// shorts takes a word such as v, vn4 or n4.
func (p *parser) shorts(word string) error {
	for word != "" && !p.help {
		o := p.node.shortFlag(word[:1])
		if o == nil {
			return fmt.Errorf("unknown flag -%s", word[:1])
		}
		word = word[1:]
		if !o.isBool() {
			return p.take(o, word, word != "")
		}
		if err := p.take(o, "", false); err != nil {
			return err
		}
	}
	return nil
}

// take gives a flag its value, which may be the next word.
func (p *parser) take(o *option, value string, hasValue bool) error {
	switch {
	case hasValue:
	case o.isBool():
		value = "true"
	case len(p.args) == 0:
		return fmt.Errorf("--%s: a value is missing", o.name)
	case len(p.args[0]) > 1 && p.args[0][0] == '-':
		return fmt.Errorf("--%s: a value is missing before %q; perhaps --%s=%q?", o.name, p.args[0], o.name, p.args[0])
	default:
		value, p.args = p.args[0], p.args[1:]
	}
	if err := o.add(value); err != nil {
		return fmt.Errorf("--%s: %w", o.name, err)
	}
	if o.name == "help" {
		p.help = o.value.Bool()
	}
	return nil
}

// finish takes what was not given from variables and defaults, and tells what is
// missing.
func (p *parser) finish(getenv func(string) string) error {
	if len(p.node.children) > 0 {
		return errors.New("expected " + oneOf(p.node.children))
	}
	var missing []string
	for n := p.node; n != nil; n = n.parent {
		for _, o := range n.flags {
			if err := o.complete(getenv); err != nil {
				return fmt.Errorf("--%s: %w", o.name, err)
			}
			if err := o.checkEnum(); err != nil {
				return fmt.Errorf("--%s %w", o.name, err)
			}
			if o.required && !o.given {
				missing = append(missing, o.usage())
			}
		}
	}
	if len(missing) > 0 {
		return errors.New("missing flags: " + strings.Join(missing, ", "))
	}
	for _, a := range p.node.args {
		if err := a.complete(getenv); err != nil {
			return fmt.Errorf("%s: %w", a.usage(), err)
		}
		if a.required && !a.given {
			missing = append(missing, a.usage())
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("expected %q", strings.Join(missing, " "))
	}
	return nil
}

// oneOf lists commands, a few of them if there are many.
func oneOf(children []*node) string {
	var names []string
	for _, child := range children[:min(5, len(children))] {
		names = append(names, fmt.Sprintf("%q", child.name))
	}
	if len(children) > 5 {
		names = append(names, "...")
	}
	return "one of " + strings.Join(names, ", ")
}

func (n *node) flagNames() []string {
	var names []string
	for ; n != nil; n = n.parent {
		for _, o := range n.flags {
			if !o.hidden {
				names = append(names, "--"+o.name)
			}
		}
	}
	return names
}

// didYouMean offers the name that a mistyped one is nearest to, if it is near.
func didYouMean(word string, names []string) string {
	best, distance := "", 3
	for _, name := range names {
		if d := editDistance(word, name); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// editDistance counts the letters to insert, remove and replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			replace := previous[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(replace, previous[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
