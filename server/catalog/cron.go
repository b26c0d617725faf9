package catalog

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// maxCron bounds a cron spec, in bytes.
const maxCron = 256

// cronZone is the optional time zone in front of a spec.
var cronZone = regexp.MustCompile(`^((?:CRON_TZ|TZ)=\S+)\s+(\S.*)$`)

// cronField is what a field may look like. It has no empty list items, on which
// the parser would accept a field that matches nothing.
var cronField = regexp.MustCompile(`^[0-9A-Za-z*?/-]+(,[0-9A-Za-z*?/-]+)*$`)

// checkCron checks a spec of six fields with leading seconds, day of week
// optional, or a descriptor.
func checkCron(spec string) error {
	if len(spec) > maxCron {
		return fmt.Errorf("has %d bytes; at most %d are allowed", len(spec), maxCron)
	}
	rest := strings.TrimSpace(spec)
	if m := cronZone.FindStringSubmatch(rest); m != nil {
		rest = m[2]
	} else if strings.HasPrefix(rest, "TZ=") || strings.HasPrefix(rest, "CRON_TZ=") {
		return errors.New("the time zone is not followed by a spec")
	}
	if every, ok := strings.CutPrefix(rest, "@every "); ok {
		d, err := time.ParseDuration(strings.TrimSpace(every))
		if err != nil || d < time.Second {
			return errors.New("want a duration of at least 1s after @every")
		}
	} else if !strings.HasPrefix(rest, "@") {
		fields := strings.Fields(rest)
		if len(fields) != 5 && len(fields) != 6 {
			return fmt.Errorf("has %d fields; want seconds, minutes, hours, day of month, month and, if you like, day of week", len(fields))
		}
		for _, f := range fields {
			if !cronField.MatchString(f) {
				return fmt.Errorf("field %q is malformed", f)
			}
		}
	}
	schedule, err := parseCron(strings.TrimSpace(spec))
	if err != nil {
		return err
	}
	if schedule.Next(time.Unix(0, 0)).IsZero() {
		return errors.New("no such time ever comes")
	}
	return nil
}

// parseCron turns the parser's panics into errors.
func parseCron(spec string) (schedule cron.Schedule, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("is malformed (%v)", r)
		}
	}()
	return cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.DowOptional | cron.Descriptor).Parse(spec)
}

// fromSchedule turns the usual five fields into the agent's six: at second 0. A
// time zone stays in front.
func fromSchedule(schedule string) (string, error) {
	zone, rest := "", strings.TrimSpace(schedule)
	if m := cronZone.FindStringSubmatch(rest); m != nil {
		zone, rest = m[1]+" ", m[2]
	}
	if n := len(strings.Fields(rest)); n != 5 {
		return "", fmt.Errorf("has %d fields; want minutes, hours, day of month, month, day of week", n)
	}
	spec := zone + "0 " + rest
	return spec, checkCron(spec)
}
