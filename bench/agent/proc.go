package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks are the units of /proc's CPU times; Linux has 100 a second everywhere.
const ticks = 100

// cpuSeconds is what a process has used itself, without its children.
func cpuSeconds(pid int) (float64, error) {
	f, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return float64(f.user+f.system) / ticks, nil
}

// procStat is what is needed of /proc/PID/stat.
type procStat struct {
	parent       int
	user, system uint64
}

func stat(pid int) (s procStat, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, err
	}
	// The name is in parentheses and may have spaces.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return s, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	if s.parent, err = strconv.Atoi(fields[1]); err != nil {
		return s, err
	}
	if s.user, err = strconv.ParseUint(fields[11], 10, 64); err != nil {
		return s, err
	}
	s.system, err = strconv.ParseUint(fields[12], 10, 64)
	return s, err
}

// sshdSeconds is what sshd and the processes it made of itself have used, but not
// the commands that they run.
func sshdSeconds(root int) (total float64, err error) {
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	ours := map[int]bool{root: true}
	for grown := true; grown; {
		grown = false
		for _, e := range entries {
			pid, _ := strconv.Atoi(filepath.Base(e))
			s, err := stat(pid)
			if err != nil || ours[pid] || !ours[s.parent] {
				continue // it has ended, or is somebody else's
			}
			if name, err := os.ReadFile(e + "/comm"); err == nil && strings.HasPrefix(string(name), "sshd") {
				ours[pid], grown = true, true
			}
		}
	}
	for pid := range ours {
		s, err := cpuSeconds(pid)
		if err != nil {
			return 0, err
		}
		total += s
	}
	return total, nil
}

// memory returns the resident memory of a process in bytes, now and at most.
func memory(pid int) (now, most float64, err error) {
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

// load is the load of the machine over the last minute.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}
