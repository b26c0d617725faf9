package agentscripts

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	// maxSpecBytes bounds a schedule's text; the longest useful one names every
	// second of a minute and stays below.
	maxSpecBytes = 1024

	// specFields: leading seconds, day of week optional, descriptors.
	specFields = cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.DowOptional | cron.Descriptor
)

// ParseSchedule parses a cron expression: five or six fields with leading
// seconds (the day of week is the optional one), or a descriptor such as @daily
// or "@every 10m", each optionally after "CRON_TZ=Area/City " or "TZ=...".
// Next of the result is the zero time if the schedule never comes due.
//
// The parser behind it panics on a zone without a schedule, takes a negative
// period for a second and needs seconds to find out that a field of commas never
// matches, hence the checks before it.
func ParseSchedule(spec string) (s cron.Schedule, err error) {
	spec = strings.TrimSpace(spec)
	if err := checkSpec(spec); err != nil {
		return nil, fmt.Errorf("schedule %.80q: %w", spec, err)
	}
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("schedule %.80q: malformed", spec)
		}
	}()
	s, err = cron.NewParser(specFields).Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("schedule %.80q: %w", spec, err)
	}
	return s, nil
}

func checkSpec(spec string) error {
	if len(spec) > maxSpecBytes {
		return fmt.Errorf("longer than %d bytes", maxSpecBytes)
	}
	for _, r := range spec {
		if r < ' ' || r > '~' {
			return fmt.Errorf("character %q is not allowed", r)
		}
	}
	if zone, rest, ok := cutZone(spec); ok {
		if zone == "" || rest == "" {
			return errors.New("a time zone needs a name, a blank and the schedule after it")
		}
		spec = rest
	}
	if strings.HasPrefix(spec, "@") {
		return checkDescriptor(spec)
	}
	fields := strings.Fields(spec)
	if len(fields) != 5 && len(fields) != 6 {
		return fmt.Errorf("want 5 or 6 fields (second minute hour day month [weekday]), have %d", len(fields))
	}
	for _, f := range fields {
		if f[0] == ',' || f[len(f)-1] == ',' || strings.Contains(f, ",,") {
			return fmt.Errorf("field %q has an empty list item", f)
		}
	}
	return nil
}

// cutZone splits the zone prefix off; ok says that there is one.
func cutZone(spec string) (zone, rest string, ok bool) {
	for _, prefix := range []string{"CRON_TZ=", "TZ="} {
		if after, found := strings.CutPrefix(spec, prefix); found {
			zone, rest, _ = strings.Cut(after, " ")
			return zone, strings.TrimSpace(rest), true
		}
	}
	return "", spec, false
}

func checkDescriptor(spec string) error {
	period, ok := strings.CutPrefix(spec, "@every ")
	if !ok {
		return nil
	}
	d, err := time.ParseDuration(period)
	if err != nil {
		return fmt.Errorf("period %q is no duration such as 90s or 1h30m", period)
	}
	if d < time.Second {
		return fmt.Errorf("period %s is shorter than a second", d)
	}
	return nil
}
