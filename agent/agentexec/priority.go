package agentexec

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	oomFlag  = "--coder-oom="
	niceFlag = "--coder-nice="
)

// priorityArgs is the command line of the agent-exec helper, taken apart.
type priorityArgs struct {
	// oom and nice are nil where the default counts.
	oom, nice *int
	command   []string
}

// parsePriorityArgs reads [--coder-oom=N] [--coder-nice=N] -- command args...
func parsePriorityArgs(args []string) (priorityArgs, error) {
	var p priorityArgs
	for i, a := range args {
		if a == "--" {
			p.command = args[i+1:]
			break
		}
		var dst **int
		var value string
		switch {
		case strings.HasPrefix(a, oomFlag):
			dst, value = &p.oom, a[len(oomFlag):]
		case strings.HasPrefix(a, niceFlag):
			dst, value = &p.nice, a[len(niceFlag):]
		default:
			return p, fmt.Errorf("agent-exec: unexpected argument %q before --", a)
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return p, fmt.Errorf("agent-exec: %q: %w", a, err)
		}
		*dst = &n
	}
	if len(p.command) == 0 {
		return p, errors.New("agent-exec: no command after --")
	}
	return p, nil
}

// childOOM is the oom_score_adj of a child whose agent has the given one: a child
// dies before its agent.
func childOOM(agent int) int {
	switch {
	case agent < 0:
		return 0
	case agent >= 998:
		return 1000
	}
	return 998
}

// childNice is the nice value of a child whose agent has the given one.
func childNice(agent int) int { return min(agent+5, 19) }
