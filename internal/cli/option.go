package cli

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// option is a flag or an argument.
type option struct {
	name, short, help, sep                                    string
	def, placeholder                                          string
	envs, enum                                                []string
	hasDefault, required, hidden, negatable, passthrough, arg bool
	value                                                     reflect.Value
	given                                                     bool
}

func (o *option) isBool() bool     { return o.value.Kind() == reflect.Bool }
func (o *option) isList() bool     { return o.value.Kind() == reflect.Slice }
func (o *option) isDuration() bool { return o.value.Type() == reflect.TypeFor[time.Duration]() }

// settable says whether the type of the field is one that set knows.
func (o *option) settable() bool {
	if !o.value.CanSet() {
		return false
	}
	return o.isBool() || o.value.Kind() == reflect.String || o.value.CanInt() || o.value.CanUint() || o.value.Type() == reflect.TypeFor[[]string]()
}

// usage is how the option looks on a command line.
func (o *option) usage() string {
	switch {
	case o.arg:
		text := "<" + o.name + ">"
		if o.isList() {
			text += " ..."
		}
		if !o.required {
			text = "[" + text + "]"
		}
		return text
	case o.negatable:
		return "--[no-]" + o.name
	case o.isBool():
		return "--" + o.name
	}
	return "--" + o.name + "=" + o.valueName()
}

// valueName stands for the value of a flag.
func (o *option) valueName() string {
	name := o.placeholder
	switch {
	case name != "":
	case o.def != "" && o.value.Kind() == reflect.String:
		return strconv.Quote(o.def)
	case o.def != "":
		return o.def
	case o.isDuration():
		return "DURATION"
	default:
		name = strings.ToUpper(o.value.Kind().String())
		if o.isList() {
			name = strings.ToUpper(o.name)
		}
	}
	if o.isList() {
		name += o.sep + "..."
	}
	return name
}

// helpName is the option in the list of help.
func (o *option) helpName() string {
	if o.short != "" {
		return fmt.Sprintf("-%s, %s", o.short, o.usage())
	}
	return "    " + o.usage()
}

// explanation is the help of an option with the default that its placeholder
// hides and its variables.
func (o *option) explanation() string {
	var facts []string
	if o.hasDefault && o.placeholder != "" {
		facts = append(facts, "default "+o.def)
	}
	for _, name := range o.envs {
		facts = append(facts, "$"+name)
	}
	if len(facts) == 0 {
		return o.help
	}
	return fmt.Sprintf("%s (%s)", strings.TrimSuffix(o.help, "."), strings.Join(facts, ", "))
}
