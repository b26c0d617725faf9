package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/worktally/worktally/e2e/tap"
)

const (
	interval = 2 * time.Second
	// patience is how long anything may take.
	patience = 60 * time.Second
)

// demo is what is running.
type demo struct {
	dir, bin, spec string
	home           string
	token          string // the administrator's
	agentToken     string
	processes      []*exec.Cmd
	files          []io.Closer

	serverAddr, serverPage, agentPage string
	sshProxy, ptyProxy                *tap.Proxy
	sessions                          sessions
}

func newDemo(dir, bin, spec string) (*demo, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	d := &demo{dir: dir, bin: bin, spec: spec, home: filepath.Join(dir, "home")}
	return d, os.MkdirAll(d.home, 0o700)
}

// freeAddress returns a loopback address that was free a moment ago.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start runs a program with its output in a log file.
func (d *demo) start(name string, env []string, stdout io.Writer, args ...string) error {
	log, err := os.Create(filepath.Join(d.dir, name+".log"))
	if err != nil {
		return err
	}
	d.files = append(d.files, log)
	cmd := exec.Command(filepath.Join(d.bin, name), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(d.environ(), env...), stdout, log
	// Ctrl-C must reach the demo only: it stops the programs in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.processes = append(d.processes, cmd)
	return nil
}

// environ is the environment of a user of the demo: nothing of the caller's
// settings leaks in.
func (d *demo) environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.home, "TMPDIR=" + os.TempDir(), "SHELL=/bin/sh",
		"DEMO_RUNS=" + filepath.Join(d.dir, "runs"),
	}
}

func (d *demo) startServer(ctx context.Context) (err error) {
	if d.serverAddr, err = freeAddress(); err != nil {
		return err
	}
	if d.serverPage, err = freeAddress(); err != nil {
		return err
	}
	// The first token is printed once, on the standard output.
	first, err := os.Create(filepath.Join(d.dir, "first-token"))
	if err != nil {
		return err
	}
	d.files = append(d.files, first)
	if err := d.start("worktally", nil, first, "server", "--http-address", d.serverAddr, "--state-dir", filepath.Join(d.dir, "server"),
		"--prometheus-enable", "--prometheus-address", d.serverPage, "--prometheus-collect-agent-stats",
		"--agent-stats-refresh-interval", interval.String()); err != nil {
		return err
	}
	return d.await(ctx, func() error {
		text, err := os.ReadFile(first.Name())
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if len(lines) != 2 {
			return errors.New("the server has not printed the first token (see worktally.log)")
		}
		d.token = lines[1]
		_, err = get(ctx, "http://"+d.serverPage+"/-/ready")
		return err
	})
}

func (d *demo) createWorkspace(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, "worktally"), "workspace", "apply", "-f", d.spec)
	var errs bytes.Buffer
	cmd.Env = append(d.environ(), "WORKTALLY_URL=http://"+d.serverAddr, "WORKTALLY_TOKEN="+d.token)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, errs.String())
	}
	_, token, ok := strings.Cut(strings.TrimSpace(string(out)), "=")
	if !ok {
		return fmt.Errorf("no agent token in %q", out)
	}
	d.agentToken = token
	return nil
}

func (d *demo) startAgent(ctx context.Context) error {
	ssh, err := freeAddress()
	if err != nil {
		return err
	}
	if d.agentPage, err = freeAddress(); err != nil {
		return err
	}
	if err := d.makeKey(ctx); err != nil {
		return err
	}
	tokenFile := filepath.Join(d.dir, "agent-token")
	if err := os.WriteFile(tokenFile, []byte(d.agentToken+"\n"), 0o600); err != nil {
		return err
	}
	socket := filepath.Join(d.dir, "pty.sock")
	if err := d.start("worktally-agent", nil, nil, "--agent-url", "http://"+d.serverAddr, "--agent-token-file", tokenFile,
		"--state-dir", filepath.Join(d.dir, "agent"), "--log-dir", filepath.Join(d.dir, "logs"), "--script-data-dir", filepath.Join(d.dir, "scripts"),
		"--prometheus-address", d.agentPage, "--ssh-address", ssh, "--ssh-authorized-keys", d.keyFile()+".pub", "--pty-socket", socket); err != nil {
		return err
	}
	for _, p := range []struct {
		proxy           **tap.Proxy
		network, target string
	}{{&d.sshProxy, "tcp", ssh}, {&d.ptyProxy, "unix", socket}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*p.proxy = tap.Listen(l, p.network, p.target)
	}
	return nil
}

// await tries until it works, and says what was missing if it does not.
func (d *demo) await(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		for _, p := range d.processes {
			if exited(p) {
				return fmt.Errorf("%s has ended (see its log in %s)", filepath.Base(p.Path), d.dir)
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// exited says whether a process is gone, without waiting for it.
func exited(cmd *exec.Cmd) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
	if err != nil {
		return errors.Is(cmd.Process.Signal(syscall.Signal(0)), os.ErrProcessDone)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z")
}

// stop ends the programs, the newest first, and waits for them.
func (d *demo) stop() error {
	var errs []error
	d.sessions.kill()
	for i := len(d.processes) - 1; i >= 0; i-- {
		p := d.processes[i]
		_ = p.Process.Signal(syscall.SIGTERM)
		force := time.AfterFunc(30*time.Second, func() { _ = p.Process.Kill() })
		if err := p.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(p.Path), err))
		}
		force.Stop()
	}
	for _, p := range []*tap.Proxy{d.sshProxy, d.ptyProxy} {
		if p != nil {
			p.Close()
		}
	}
	for _, f := range d.files {
		_ = f.Close()
	}
	return errors.Join(errs...)
}
