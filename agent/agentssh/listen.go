package agentssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// bindTimeout bounds the name lookup of an address to listen on.
const bindTimeout = 10 * time.Second

// serveGlobal answers the requests that belong to the whole connection, in their
// order.
func (c *connection) serveGlobal(requests <-chan *ssh.Request) {
	for r := range requests {
		c.heard.Add(1)
		ok, payload := c.global(r)
		reply(r, ok, payload)
	}
}

func (c *connection) global(r *ssh.Request) (ok bool, answer []byte) {
	defer c.guard("request " + r.Type)
	switch r.Type {
	case keepaliveName:
		return true, nil
	case "tcpip-forward":
		if p, ok := parse[listenPayload](r.Payload); ok && p.Port <= 65535 {
			return c.listenTCP(p)
		}
	case "cancel-tcpip-forward":
		if p, ok := parse[listenPayload](r.Payload); ok {
			return c.unlisten(tcpKey(p.Addr, p.Port)), nil
		}
	case "streamlocal-forward@openssh.com":
		if p, ok := parse[textPayload](r.Payload); ok {
			return c.listenUnix(p.Text), nil
		}
	case "cancel-streamlocal-forward@openssh.com":
		if p, ok := parse[textPayload](r.Payload); ok {
			c.unlisten(unixKey(p.Text))
			return true, nil // an unknown path is as good as a cancelled one
		}
	}
	return false, nil
}

func tcpKey(addr string, port uint32) string {
	return "tcp " + net.JoinHostPort(addr, strconv.FormatUint(uint64(port), 10))
}

func unixKey(path string) string { return "unix " + path }

// listenTCP listens where the client asks for, and answers with the port if it
// left the choice to us.
func (c *connection) listenTCP(p listenPayload) (ok bool, answer []byte) {
	if c.srv.o.BlockReverseForwarding {
		c.log.Info("reverse port forwarding is disabled", "address", p.Addr)
		return false, nil
	}
	host := p.Addr
	if host == "*" {
		host = ""
	}
	ctx, cancel := context.WithTimeout(c.ctx, bindTimeout)
	defer cancel()
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(p.Port))))
	if err != nil {
		c.log.Info("reverse forward", "err", err)
		return false, nil
	}
	if p.Port == 0 {
		p.Port = uint32(l.Addr().(*net.TCPAddr).Port)
		answer = ssh.Marshal(portPayload{p.Port})
	}
	if !c.keep(tcpKey(p.Addr, p.Port), l) {
		l.Close()
		return false, nil
	}
	c.wg.Go(func() {
		c.relay(l, false, func(nc net.Conn) (string, []byte) {
			origin, _ := nc.RemoteAddr().(*net.TCPAddr)
			return "forwarded-tcpip", ssh.Marshal(forwardedPayload{p.Addr, p.Port, origin.IP.String(), uint32(origin.Port)})
		})
	})
	return true, answer
}

// listenUnix listens on a socket, in place of whatever file is there.
func (c *connection) listenUnix(asked string) bool {
	if c.srv.o.BlockReverseForwarding {
		c.log.Info("reverse forwarding is disabled", "path", asked)
		return false
	}
	c.mu.Lock()
	_, known := c.listeners[unixKey(asked)]
	c.mu.Unlock()
	if known {
		return true
	}
	path := c.srv.o.Commands.ExpandPath(asked)
	if filepath.IsAbs(asked) {
		path = asked
	}
	l, err := listenSocket(path)
	if err != nil {
		c.log.Info("reverse forward", "err", err)
		return false
	}
	if !c.keep(unixKey(asked), l) {
		l.Close()
		return false
	}
	c.wg.Go(func() {
		c.relay(l, false, func(net.Conn) (string, []byte) {
			return "forwarded-streamlocal@openssh.com", ssh.Marshal(forwardedUnixPayload{Path: asked})
		})
	})
	return true
}

// keep remembers a listener until it is cancelled or the connection ends.
func (c *connection) keep(key string, l net.Listener) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.listeners[key]
	if len(c.listeners) >= c.srv.o.MaxListeners && !known {
		c.srv.o.Tally.Drop(stats.DropForwards, 1)
		return false
	}
	if c.draining || known {
		return false
	}
	c.listeners[key] = l
	return true
}

// unlisten ends a listener; false if there is none.
func (c *connection) unlisten(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, known := c.listeners[key]
	if known {
		delete(c.listeners, key)
		l.Close()
	}
	return known
}

// relay opens a channel to the client for each connection to the listener, until
// that is closed; after the first one if single is true. It closes the listener
// and waits for nobody: the channels belong to the connection.
func (c *connection) relay(l net.Listener, single bool, channel func(net.Conn) (name string, payload []byte)) {
	defer l.Close()
	for {
		nc, err := acceptRetrying(c.ctx, l)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) && c.ctx.Err() == nil {
				c.log.Warn("accept for a client", "address", l.Addr().String(), "err", err)
			}
			return
		}
		if !c.take(&c.forwards, c.srv.o.MaxForwards, stats.DropForwards) {
			nc.Close()
			continue
		}
		c.wg.Go(func() {
			defer c.give(&c.forwards)
			defer nc.Close()
			name, payload := channel(nc)
			defer c.guard("channel " + name)
			ch, requests, err := c.sc.OpenChannel(name, payload)
			if err != nil {
				c.log.Debug("client took no channel", "channel", name, "err", err)
				return
			}
			c.join(ch, requests, nc)
		})
		if single {
			return
		}
	}
}

// socketListener removes its file when it is closed, unless another listener has
// taken the path since.
type socketListener struct {
	*net.UnixListener
	path string
	file os.FileInfo
}

func listenSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make room for a socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && !info.IsDir() {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace a socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	info, err := os.Lstat(path)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("look at a new socket: %w", err)
	}
	return &socketListener{UnixListener: l, path: path, file: info}, nil
}

// Close ends the listener and removes its file.
func (l *socketListener) Close() error {
	err := l.UnixListener.Close()
	if err == nil {
		if info, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(info, l.file) {
			err = os.Remove(l.path)
		}
	}
	return err
}
