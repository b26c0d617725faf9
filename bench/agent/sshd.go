package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/worktally/worktally/e2e/stack"
)

// sshd is OpenSSH's server on loopback, without a tailnet.
type sshd struct {
	b       *bench
	program *stack.Program
	address string
}

// startSSHD starts the server with a configuration of its own. Without the program
// the error is exec.ErrNotFound.
func (b *bench) startSSHD(ctx context.Context) (*sshd, error) {
	path, err := exec.LookPath("sshd")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/sshd"); err != nil {
			return nil, exec.ErrNotFound
		}
	}
	if os.Geteuid() == 0 { // it insists on this directory, which the system makes when it starts the service
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	d := &sshd{b: b}
	if d.address, err = stack.FreeAddress(); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(d.address)
	if err != nil {
		return nil, err
	}
	config := strings.Join([]string{
		"ListenAddress " + host, "Port " + port, "HostKey " + b.s.Path("key"), "AuthorizedKeysFile " + b.s.Path("key.pub"),
		"StrictModes no", "UsePAM no", "PidFile none", "PasswordAuthentication no", "PrintMotd no", "",
	}, "\n")
	file := b.s.Path("sshd_config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if d.program, err = b.s.Start("sshd", nil, path, "-D", "-e", "-f", file); err != nil {
		return nil, err
	}
	return d, stack.Await(ctx, 10*time.Second, func() error {
		c, err := net.Dial("tcp", d.address)
		if err == nil {
			_ = c.Close()
		}
		return err
	}, d.program)
}

// cost is sshd's CPU time for a GiB down. The command waits at its end, so that the
// processes are still there to be asked.
func (d *sshd) cost(ctx context.Context, size int64) (float64, error) {
	_, port, err := net.SplitHostPort(d.address)
	if err != nil {
		return 0, err
	}
	before, err := sshdSeconds(d.program.PID())
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, "ssh", "-F", "/dev/null", "-i", d.b.s.Path("key"), "-p", port,
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-c", "aes128-gcm@openssh.com", "127.0.0.1", zeros(size)+"; read line")
	cmd.Env = d.b.s.Environ()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, errCopy := io.CopyN(io.Discard, stdout, size)
	after, errCPU := sshdSeconds(d.program.PID())
	_ = stdin.Close()
	_ = cmd.Wait() // the end of its input makes read fail
	if errCopy != nil || errCPU != nil {
		return 0, fmt.Errorf("sshd: %d of %d bytes: %v, %v", n, size, errCopy, errCPU)
	}
	return (after - before) * gib / float64(size), nil
}
