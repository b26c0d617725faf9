package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/worktally/worktally/e2e/stack"
)

// descriptors is how many a process has open.
func descriptors(pid int) (int, error) {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return len(names), err
}

// usage is what a program needs.
type usage struct {
	goroutines, descriptors, bytes float64
}

// usageOf reads the page and what the kernel says of the process.
func usageOf(ctx context.Context, p *stack.Program, page string) (u usage, err error) {
	metrics, err := stack.ReadPage(ctx, page)
	if err != nil {
		return u, err
	}
	fds, err := descriptors(p.PID())
	if err != nil {
		return u, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return u, err
			}
			u.bytes = kib * 1024
		}
	}
	u.goroutines, u.descriptors = metrics.Sum("go_goroutines"), float64(fds)
	return u, nil
}

// String is for people.
func (u usage) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f descriptors, %.1f MB", u.goroutines, u.descriptors, u.bytes/1e6)
}

// grown says if a program needs more than before, but for what comes and goes.
func grown(name string, before, now usage) error {
	const slack, memory = 20, 16e6
	var errs []error
	for _, v := range []struct {
		what             string
		before, now, add float64
	}{
		{"goroutines", before.goroutines, now.goroutines, slack}, {"descriptors", before.descriptors, now.descriptors, slack},
		{"bytes", before.bytes, now.bytes, memory + 0.1*before.bytes},
	} {
		if v.now > v.before+v.add {
			errs = append(errs, fmt.Errorf("%s: %s grew from %.0f to %.0f", name, v.what, v.before, v.now))
		}
	}
	return errors.Join(errs...)
}
