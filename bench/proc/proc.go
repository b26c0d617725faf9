// Package proc reads what the kernel knows of processes and of the machine.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticks are the units of /proc's CPU times; Linux has 100 a second everywhere.
const ticks = 100

// CPUSeconds is what a process has used itself, without its children.
func CPUSeconds(pid int) (float64, error) {
	s, err := ReadStat(pid)
	return s.CPUSeconds, err
}

// Stat is what is needed of /proc/PID/stat.
type Stat struct {
	Parent     int
	CPUSeconds float64
}

// ReadStat reads it.
func ReadStat(pid int) (s Stat, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	// The name is in parentheses and may have spaces.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return s, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	if s.Parent, err = strconv.Atoi(fields[1]); err != nil {
		return s, err
	}
	user, err := strconv.ParseUint(fields[11], 10, 64)
	if err != nil {
		return s, err
	}
	system, err := strconv.ParseUint(fields[12], 10, 64)
	s.CPUSeconds = float64(user+system) / ticks
	return s, err
}

// Memory returns the resident memory of a process in bytes, now and at most.
func Memory(pid int) (now, most float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		kib, _ := strconv.ParseFloat(f[1], 64)
		switch f[0] {
		case "VmRSS:":
			now = kib * 1024
		case "VmHWM:":
			most = kib * 1024
		}
	}
	return now, most, nil
}

// Load is the load of the machine over the last minute.
func Load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}
