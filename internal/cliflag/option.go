package cliflag

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// option is one flag and the field it fills. It implements pflag.Value.
type option struct {
	field       reflect.Value
	name        string
	envs        []string
	def         string
	choices     []string
	placeholder string
	help        string
	hidden      bool
	given       bool
}

func newOption(field reflect.Value, tag reflect.StructTag) *option {
	o := &option{
		field: field, name: tag.Get("name"), def: tag.Get("default"), placeholder: tag.Get("placeholder"),
		help: strings.ReplaceAll(tag.Get("help"), "$$", "$"),
	}
	if envs := tag.Get("envs"); envs != "" {
		o.envs = strings.Split(envs, ",")
	}
	if choices := tag.Get("enum"); choices != "" {
		o.choices = strings.Split(choices, ",")
	}
	_, o.hidden = tag.Lookup("hidden")
	return o
}

// String implements pflag.Value. The help tells defaults itself.
func (o *option) String() string { return "" }

// Type implements pflag.Value.
func (o *option) Type() string {
	switch {
	case o == nil || !o.field.IsValid():
		return ""
	case o.field.Kind() == reflect.Bool:
		return "bool"
	case o.placeholder != "":
		return o.placeholder
	case o.field.Type() == reflect.TypeFor[time.Duration]():
		return "DURATION"
	case o.field.Kind() == reflect.Uint16:
		return "NUMBER"
	}
	return "TEXT"
}

// Set implements pflag.Value: a list grows, anything else is replaced.
func (o *option) Set(text string) error {
	o.given = true
	return o.set(text)
}

func (o *option) set(text string) error {
	switch o.field.Interface().(type) {
	case string:
		o.field.SetString(text)
	case []string:
		o.field.Set(reflect.AppendSlice(o.field, reflect.ValueOf(strings.Split(text, ","))))
	case bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is none of true and false", text)
		}
		o.field.SetBool(v)
	case time.Duration:
		v, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 30s", text)
		}
		o.field.SetInt(int64(v))
	case uint16:
		v, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a number from 0 to 65535", text)
		}
		o.field.SetUint(v)
	default:
		panic("BUG: cliflag: no flag can have the type " + o.field.Type().String())
	}
	return nil
}

// complete takes what the command line does not have from the variables, or the
// default. An empty variable is none.
func (o *option) complete(getenv func(string) string) error {
	if o.given {
		return nil
	}
	for _, name := range o.envs {
		if v := getenv(name); v != "" {
			return o.set(v)
		}
	}
	if o.def == "" {
		return nil
	}
	return o.set(o.def)
}

func (o *option) checkChoice() error {
	if o.choices == nil || slices.Contains(o.choices, o.field.String()) {
		return nil
	}
	return fmt.Errorf("must be one of %q but got %q", o.choices, o.field.String())
}

// title names the flag and its variables.
func (o *option) title() string {
	if len(o.envs) == 0 {
		return "--" + o.name
	}
	return fmt.Sprintf("--%s (%s)", o.name, strings.Join(o.envs, ", "))
}

func (o *option) usage() string {
	var facts []string
	if o.def != "" && o.def != "false" {
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
