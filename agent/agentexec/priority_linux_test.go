package agentexec

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/worktally/worktally/internal/testtool"
)

// The test binary is its own agent-exec helper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "agent-exec" {
		fmt.Fprintln(os.Stderr, RunPriority(os.Args[2:]))
		os.Exit(1)
	}
	testtool.MindHangUps()
	os.Exit(m.Run())
}

func TestRunPriority(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := newBuilder(t, Options{Executable: self}, "CODER_PROC_PRIO_MGMT=1", "CODER_PROC_OOM_SCORE=999", "CODER_PROC_NICE_SCORE=11")
	got := run(t, b, Request{Command: "cat /proc/self/oom_score_adj; nice; echo $CODER_PROC_PRIO_MGMT$CODER_PROC_NICE_SCORE."})
	if want := "999\n11\n."; got != want {
		t.Errorf("output = %q, want %q", got, want)
	}
}

func TestDropEffective(t *testing.T) {
	status := make(chan string, 1)
	go func() {
		// The thread is given up together with this goroutine.
		runtime.LockOSThread()
		if err := dropEffective(); err != nil {
			status <- err.Error()
			return
		}
		b, err := os.ReadFile("/proc/thread-self/status")
		if err != nil {
			status <- err.Error()
			return
		}
		status <- string(b)
	}()
	if got := <-status; !strings.Contains(got, "CapEff:\t0000000000000000\n") {
		t.Errorf("effective capabilities are left:\n%s", got)
	}
}

func TestRunPriority_UnknownCommand(t *testing.T) {
	err := RunPriority([]string{"--", "no-such-command-anywhere"})
	if err == nil || !strings.Contains(err.Error(), "agent-exec: ") {
		t.Errorf("error = %v", err)
	}
}
