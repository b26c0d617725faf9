//go:build !linux

package agentexec

import "errors"

// RunPriority is the agent-exec helper; priorities are set on Linux only.
func RunPriority(args []string) error {
	if _, err := parsePriorityArgs(args); err != nil {
		return err
	}
	return errors.New("agent-exec: process priorities are supported on Linux only")
}
