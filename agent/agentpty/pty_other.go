//go:build !unix

package agentpty

import (
	"errors"
	"os"
	"os/exec"
)

var errUnsupported = errors.New("terminals are not supported on this system")

func startPTY(*exec.Cmd, uint16, uint16, bool) (*os.File, error) { return nil, errUnsupported }

func resizePTY(*os.File, uint16, uint16) error { return errUnsupported }

func hangUp(c *exec.Cmd) error { return c.Process.Kill() }

func endOfOutput(error) bool { return false }

func privateDir(string) error { return errUnsupported }
