package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/worktally/worktally/bench/proc"
)

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
			s, err := proc.ReadStat(pid)
			if err != nil || ours[pid] || !ours[s.Parent] {
				continue // it has ended, or is somebody else's
			}
			if name, err := os.ReadFile(e + "/comm"); err == nil && strings.HasPrefix(string(name), "sshd") {
				ours[pid], grown = true, true
			}
		}
	}
	for pid := range ours {
		s, err := proc.CPUSeconds(pid)
		if err != nil {
			return 0, err
		}
		total += s
	}
	return total, nil
}
