package stack

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"

	"golang.org/x/crypto/ssh"
)

func (s *Stack) keyFile() string { return s.Path("key") }

func (s *Stack) makeKey(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.keyFile()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ssh-keygen: %w: %s", err, out)
	}
	return nil
}

func (s *Stack) sshOptions() []string {
	return []string{
		"-F", "/dev/null", "-i", s.keyFile(), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
		"-o", "UserKnownHostsFile=" + s.Path("known_hosts"), "-o", "StrictHostKeyChecking=accept-new", "-o", "ConnectTimeout=60",
	}
}

// SSHCommand builds an OpenSSH command; the last argument is what runs in the
// workspace, those before it are options.
func (s *Stack) SSHCommand(ctx context.Context, to net.Addr, args ...string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(to.String())
	all := append(s.sshOptions(), "-p", port)
	all = append(append(all, args[:len(args)-1]...), "user@"+host, args[len(args)-1])
	cmd := exec.CommandContext(ctx, "ssh", all...)
	cmd.Env = s.Environ()
	return cmd
}

// SFTPCommand builds an OpenSSH file transfer that reads its orders from standard
// input.
func (s *Stack) SFTPCommand(ctx context.Context, to net.Addr) *exec.Cmd {
	host, port, _ := net.SplitHostPort(to.String())
	cmd := exec.CommandContext(ctx, "sftp", append(s.sshOptions(), "-P", port, "-b", "-", "user@"+host)...)
	cmd.Env = s.Environ()
	return cmd
}

// Signer is the key that the agents let in, for clients other than OpenSSH.
func (s *Stack) Signer() (ssh.Signer, error) {
	text, err := os.ReadFile(s.keyFile())
	if err != nil {
		return nil, err
	}
	return ssh.ParsePrivateKey(text)
}
