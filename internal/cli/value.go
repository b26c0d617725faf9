package cli

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// add gives an option a value from the command line: a list grows, anything else
// is replaced.
func (o *option) add(text string) error {
	o.given = true
	if !o.isList() {
		return o.set(text)
	}
	if o.passthrough {
		o.value.Set(reflect.Append(o.value, reflect.ValueOf(text)))
		return nil
	}
	o.value.Set(reflect.AppendSlice(o.value, reflect.ValueOf(strings.Split(text, o.sep))))
	return nil
}

// complete takes a value that was not given from the variables or the default.
func (o *option) complete(getenv func(string) string) error {
	if o.given {
		return nil
	}
	for _, name := range o.envs {
		if v := getenv(name); v != "" {
			return o.add(v)
		}
	}
	if o.hasDefault {
		return o.set(o.def)
	}
	return nil
}

func (o *option) checkEnum() error {
	if o.enum == nil || slices.Contains(o.enum, o.value.String()) {
		return nil
	}
	quoted := make([]string, len(o.enum))
	for i, v := range o.enum {
		quoted[i] = strconv.Quote(v)
	}
	return fmt.Errorf("must be one of %s but got %q", strings.Join(quoted, ","), o.value.String())
}

func (o *option) set(text string) error {
	switch {
	case o.isBool():
		v, err := parseBool(text)
		o.value.SetBool(v)
		return err
	case o.isList():
		o.value.Set(reflect.ValueOf(strings.Split(text, o.sep)))
	case o.isDuration():
		v, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("expected a duration such as 90s but got %q", text)
		}
		o.value.SetInt(int64(v))
	case o.value.CanInt():
		v, err := strconv.ParseInt(text, 0, o.value.Type().Bits())
		if err != nil {
			return fmt.Errorf("expected a whole number%s but got %q", outOfRange(err), text)
		}
		o.value.SetInt(v)
	case o.value.CanUint():
		v, err := strconv.ParseUint(text, 0, o.value.Type().Bits())
		if err != nil {
			return fmt.Errorf("expected a whole number of %d bits that is not negative but got %q", o.value.Type().Bits(), text)
		}
		o.value.SetUint(v)
	default:
		o.value.SetString(text)
	}
	return nil
}

func outOfRange(err error) string {
	if errors.Is(err, strconv.ErrRange) {
		return " that is smaller"
	}
	return ""
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "1", "yes":
		return true, nil
	case "false", "0", "no":
		return false, nil
	}
	return false, fmt.Errorf("expected true, 1, yes, false, 0 or no but got %q", text)
}
