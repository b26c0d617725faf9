//go:build !unix

package agentscripts

import "os/exec"

func ownGroup(*exec.Cmd) {}

// hangUp ends the process: there is no signal that asks.
func hangUp(c *exec.Cmd) error { return c.Process.Kill() }

func killGroup(c *exec.Cmd) error { return c.Process.Kill() }
