package client

import (
	"context"
	"fmt"

	"golang.org/x/crypto/ssh"
)

// The agent's own ports (contract tailnet.md section 4).
const (
	portSSH       = 1
	portTerminal  = 2
	portSpeedtest = 3
)

// SSH opens an SSH connection to the agent. The tailnet has proved who the agent
// is, so its host key is not asked for, and nobody is asked for a key.
func (c *Conn) SSH(ctx context.Context) (*ssh.Client, error) {
	conn, err := c.DialPort(ctx, portSSH)
	if err != nil {
		return nil, err
	}
	config := &ssh.ClientConfig{
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // see above
		Config:          ssh.Config{Ciphers: []string{"aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"}},
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	s, channels, requests, err := ssh.NewClientConn(conn, c.Workspace.Name, config)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open SSH connection: %w", err)
	}
	return ssh.NewClient(s, channels, requests), nil
}
