package agentapps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/worktally/worktally/agent/agentexec"
)

// maxValueBytes is the most that is kept of a value.
const maxValueBytes = 10 << 10

// collectGrace is how long output is awaited after the end of a command.
const collectGrace = time.Second

// collect runs the script and returns its output, standard and error output in
// one. An error does not exclude a value.
func collect(ctx context.Context, commands Commands, script string, timeout time.Duration) result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd, err := commands.Command(ctx, agentexec.Request{Command: script})
	if err != nil {
		return result{error: clean("create cmd: " + err.Error())}
	}
	var out capped
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = collectGrace
	agentexec.OwnSession(cmd)
	cmd.Cancel = func() error { return agentexec.Kill(cmd.Process) }
	if err := cmd.Start(); err != nil {
		return result{error: clean("start cmd: " + err.Error())}
	}
	err = cmd.Wait()
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("run cmd: timed out after %s: %w", timeout, err)
	case errors.Is(err, exec.ErrWaitDelay):
		err = errors.New("run cmd: output stayed open after the end")
	case err != nil:
		err = fmt.Errorf("run cmd: %w", err)
	}
	r := result{value: clean(out.kept.String())}
	if out.all > maxValueBytes {
		err = errors.Join(err, fmt.Errorf("output of %d bytes was cut to %d", out.all, maxValueBytes))
	}
	if err != nil {
		r.error = clean(err.Error())
	}
	return r
}

// clean makes text that a protobuf string can carry, without a rune that was cut
// at the end.
func clean(s string) string {
	if len(s) >= maxValueBytes {
		for i := len(s) - 1; i >= len(s)-utf8.UTFMax; i-- {
			if utf8.RuneStart(s[i]) {
				if !utf8.FullRuneInString(s[i:]) {
					s = s[:i]
				}
				break
			}
		}
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// capped keeps the first bytes of what is written to it and counts the rest.
type capped struct {
	kept bytes.Buffer
	all  int
}

func (c *capped) Write(p []byte) (int, error) {
	c.all += len(p)
	if room := maxValueBytes - c.kept.Len(); room > 0 {
		c.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
