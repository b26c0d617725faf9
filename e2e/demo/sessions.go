package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/google/uuid"
)

// sessions are those that the demo holds open.
type sessions struct {
	ssh      []*exec.Cmd
	inputs   []io.Closer
	terminal net.Conn
	// opened is how many were opened in all, the short ones included.
	opened int
}

func (s *sessions) kill() {
	for _, c := range s.ssh {
		if c.ProcessState == nil {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}
	if s.terminal != nil {
		_ = s.terminal.Close()
	}
}

// openSessions runs a command and a file transfer to their end and leaves an SSH
// shell, a VS Code session and a terminal open.
func (d *demo) openSessions(ctx context.Context) error {
	out, err := d.SSHCommand(ctx, d.agent.SSH.Addr(), "echo hello; exit 7").Output()
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || string(out) != "hello\n" {
		return fmt.Errorf("ssh command: %q, %v", out, err)
	}
	d.sessions.opened++
	if err := d.transfer(ctx); err != nil {
		return fmt.Errorf("sftp: %w", err)
	}
	d.sessions.opened++
	if err := d.hold("-tt", "exec cat"); err != nil {
		return fmt.Errorf("ssh shell: %w", err)
	}
	if err := d.hold("-o", "SetEnv=CODER_SSH_SESSION_TYPE=vscode", "exec cat"); err != nil {
		return fmt.Errorf("VS Code session: %w", err)
	}
	return d.openTerminal(ctx)
}

// hold starts a session that lives until its input is closed.
func (d *demo) hold(args ...string) error {
	return d.holdCommand(d.SSHCommand(context.Background(), d.agent.SSH.Addr(), args...))
}

func (d *demo) holdCommand(cmd *exec.Cmd) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	d.sessions.ssh, d.sessions.inputs = append(d.sessions.ssh, cmd), append(d.sessions.inputs, in)
	d.sessions.opened++
	return nil
}

// transfer sends a file by SFTP, gets it back and compares.
func (d *demo) transfer(ctx context.Context) error {
	content := make([]byte, 3<<20)
	_, _ = rand.Read(content)
	up, down := d.Path("up.bin"), d.Path("down.bin")
	if err := os.WriteFile(up, content, 0o600); err != nil {
		return err
	}
	cmd := d.SFTPCommand(ctx, d.agent.SSH.Addr())
	cmd.Stdin = strings.NewReader("put " + up + " demo.bin\nget demo.bin " + down + "\nrm demo.bin\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	got, err := os.ReadFile(down)
	if err != nil {
		return err
	}
	if !bytes.Equal(content, got) {
		return errors.New("the file came back different")
	}
	return nil
}

// openTerminal attaches to a reconnecting terminal and sees it answer.
func (d *demo) openTerminal(ctx context.Context) error {
	conn, err := net.Dial("tcp", d.agent.PTY.Addr().String())
	if err != nil {
		return err
	}
	d.sessions.terminal = conn
	d.sessions.opened++
	hello, err := json.Marshal(map[string]any{
		"ID": uuid.NewString(), "Height": 24, "Width": 80, "Command": "", "Container": "", "ContainerUser": "", "BackendType": "buffered",
	})
	if err != nil {
		return err
	}
	message := binary.LittleEndian.AppendUint16(nil, uint16(len(hello)))
	message = append(append(message, hello...), `{"data":"echo $((40+2))-is-the-answer\r"}`...)
	if _, err := conn.Write(message); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var seen bytes.Buffer
	buf := make([]byte, 4096)
	for !strings.Contains(seen.String(), "42-is-the-answer") {
		n, err := conn.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			return fmt.Errorf("the terminal said %q: %w", seen.String(), err)
		}
	}
	return nil
}

// closeSessions ends what is open, each in its own way.
func (d *demo) closeSessions() error {
	var errs []error
	for i, in := range d.sessions.inputs {
		if i == 0 {
			// The shell has a terminal: ^D ends its input.
			_, _ = io.WriteString(in.(io.Writer), "\x04")
		}
		errs = append(errs, in.Close())
	}
	for _, c := range d.sessions.ssh {
		force := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
		if err := c.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("ssh: %w", err))
		}
		force.Stop()
	}
	return errors.Join(append(errs, d.sessions.terminal.Close())...)
}
