package cli

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"
)

// node is the program or one of its commands.
type node struct {
	name, help string
	parent     *node
	flags      []*option
	args       []*option
	children   []*node
	value      reflect.Value
}

// newModel reads a grammar. What is wrong with it is a mistake of the program.
func newModel(grammar any, name, help string) *node {
	root := &node{name: name, help: help, value: reflect.ValueOf(grammar).Elem()}
	root.flags = []*option{{name: "help", short: "h", help: "Show context-sensitive help.", value: reflect.New(reflect.TypeFor[bool]()).Elem()}}
	root.read(root.value)
	return root
}

func (n *node) read(v reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			n.read(v.Field(i))
			continue
		}
		o := newOption(field, v.Field(i))
		if _, is := field.Tag.Lookup("cmd"); is {
			child := &node{name: o.name, help: o.help, parent: n, value: o.value}
			child.read(o.value)
			n.children = append(n.children, child)
			continue
		}
		if !o.settable() {
			panic(fmt.Sprintf("BUG: command line: %s has the type %s", field.Name, field.Type))
		}
		if _, is := field.Tag.Lookup("arg"); is {
			_, optional := field.Tag.Lookup("optional")
			o.arg, o.required = true, !optional
			n.args = append(n.args, o)
			continue
		}
		if other, _ := n.flag(o.name); other != nil {
			panic("BUG: command line: two flags --" + o.name)
		}
		n.flags = append(n.flags, o)
	}
}

func newOption(field reflect.StructField, v reflect.Value) *option {
	tag := func(name string) string { return strings.ReplaceAll(field.Tag.Get(name), "$$", "$") }
	has := func(name string) bool { _, ok := field.Tag.Lookup(name); return ok }
	o := &option{
		name: tag("name"), short: tag("short"), help: tag("help"), sep: tag("sep"), def: tag("default"), placeholder: tag("placeholder"),
		envs: list(tag("envs")), enum: list(tag("enum")),
		hasDefault: has("default"), required: has("required"), hidden: has("hidden"), negatable: has("negatable"), passthrough: has("passthrough"),
		value: v,
	}
	if o.name == "" {
		o.name = kebab(field.Name)
	}
	if o.sep == "" {
		o.sep = ","
	}
	return o
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// kebab writes RotateToken as rotate-token.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// flag returns the flag of the node, or of what it belongs to, with a name;
// negated if the name is the opposite of a flag's.
func (n *node) flag(name string) (o *option, negated bool) {
	for ; n != nil; n = n.parent {
		for _, o := range n.flags {
			if o.name == name {
				return o, false
			}
			if o.negatable && "no-"+o.name == name {
				return o, true
			}
		}
	}
	return nil, false
}

func (n *node) shortFlag(name string) *option {
	for ; n != nil; n = n.parent {
		for _, o := range n.flags {
			if o.short == name {
				return o
			}
		}
	}
	return nil
}

// path is the node with what it belongs to, without the program.
func (n *node) path() string {
	if n.parent == nil {
		return ""
	}
	return strings.TrimPrefix(n.parent.path()+" "+n.name, " ")
}
