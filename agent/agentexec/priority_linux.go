package agentexec

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// RunPriority is the agent-exec helper: it sets the out-of-memory score and the
// nice value, gives up the effective capabilities and becomes the command. It
// returns only if it could not. A score that may not be set is reported on
// standard error and the command runs all the same: a workspace with the wrong
// priority is better than none.
func RunPriority(args []string) error {
	p, err := parsePriorityArgs(args)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(p.command[0])
	if err != nil {
		return fmt.Errorf("agent-exec: %w", err)
	}
	// Nice values and capabilities belong to a thread, and the thread that calls
	// exec is the one that lives on.
	runtime.LockOSThread()
	if err := setOOM(p.oom); err != nil {
		fmt.Fprintln(os.Stderr, "agent-exec:", err)
	}
	if err := setNice(p.nice); err != nil {
		fmt.Fprintln(os.Stderr, "agent-exec:", err)
	}
	if err := dropEffective(); err != nil {
		return fmt.Errorf("agent-exec: drop capabilities: %w", err)
	}
	if err := syscall.Exec(path, p.command, os.Environ()); err != nil {
		return fmt.Errorf("agent-exec: run %s: %w", path, err)
	}
	return nil
}

const oomFile = "/proc/self/oom_score_adj"

func setOOM(asked *int) error {
	// A binary with file capabilities is not dumpable, and then its files in
	// /proc belong to root.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
	score := 0
	if asked != nil {
		score = *asked
	} else {
		b, err := os.ReadFile(oomFile)
		if err != nil {
			return fmt.Errorf("read the out-of-memory score: %w", err)
		}
		own, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return fmt.Errorf("read the out-of-memory score: %w", err)
		}
		score = childOOM(own)
	}
	if err := os.WriteFile(oomFile, []byte(strconv.Itoa(score)), 0); err != nil {
		return fmt.Errorf("set the out-of-memory score to %d: %w", score, err)
	}
	return nil
}

func setNice(asked *int) error {
	nice := 0
	if asked != nil {
		nice = *asked
	} else {
		// The system call answers 20 - nice, so that no answer is negative.
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
		if err != nil {
			return fmt.Errorf("read the nice value: %w", err)
		}
		nice = childNice(20 - raw)
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice); err != nil {
		return fmt.Errorf("set the nice value to %d: %w", nice, err)
	}
	return nil
}

func dropEffective() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for i := range sets {
		sets[i].Effective = 0
	}
	return unix.Capset(&header, &sets[0])
}
