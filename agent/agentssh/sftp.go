package agentssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"github.com/worktally/worktally/agent/stats"
)

// sftpPacket is the most that one answer to a read carries.
const sftpPacket = 256 << 10

const (
	// maxSFTP bounds the servers of all connections. Each of the eight operations that
	// one works on at a time may wait in the system, in a thread of its own, for a pipe
	// that nobody writes to or a disk that does not answer, and a process has 10,000
	// threads.
	maxSFTP = 500
	// lastOperations is how long a session whose client has gone waits for them.
	lastOperations = time.Second
)

// runSFTP serves files, starting in the home of the user.
func (s *session) runSFTP() outcome {
	srv := s.c.srv
	srv.o.Tally.SFTPOpened()
	home, err := srv.o.Commands.Home()
	if err != nil {
		srv.o.Tally.SFTPFailed()
		return s.fail(stats.ErrCreateCommand, err)
	}
	if !srv.takeFiles() {
		srv.o.Tally.SFTPFailed()
		return refusal(1, "too many sftp sessions")
	}
	stream := &sftpStream{s: s}
	server, err := sftp.NewServer(stream,
		sftp.WithAllocator(),
		sftp.WithMaxTxPacket(sftpPacket),
		sftp.WithServerWorkingDirectory(home))
	if err != nil {
		srv.files.Add(-1)
		srv.o.Tally.SFTPFailed()
		return refusal(1, fmt.Sprintf("sftp server closed with error: %v", err))
	}
	stop := context.AfterFunc(s.ctx, func() { s.ch.Close() })
	defer stop()
	err = s.serveFiles(server)
	if s.ctx.Err() != nil {
		return cutShort(context.Cause(s.ctx))
	}
	if err == nil && !stream.closed.Load() || errors.Is(err, io.EOF) {
		return outcome{sent: true, end: stats.EndExited}
	}
	srv.o.Tally.SFTPFailed()
	s.c.log.Warn("sftp session failed", "err", err)
	out := refusal(1, fmt.Sprintf("sftp server closed with error: %v", err))
	out.sent = !stream.closed.Load()
	return out
}

// serveFiles serves until the client ends, or until nothing comes back from the
// system although the client has gone: then the server is left to end when it can,
// and keeps its place until then.
func (s *session) serveFiles(server *sftp.Server) error {
	srv := s.c.srv
	served := make(chan error, 1)
	go func() { // ends with its last operation, maybe long after the session
		defer srv.files.Add(-1)
		defer func() {
			if v := recover(); v != nil {
				s.c.log.Error("panic in sftp", "value", v, "stack", string(debug.Stack()))
				served <- fmt.Errorf("panic in sftp: %v", v)
			}
		}()
		served <- server.Serve()
	}()
	select {
	case err := <-served:
		return err
	case <-s.ctx.Done():
	}
	select {
	case err := <-served:
		return err
	case <-time.After(lastOperations):
		s.c.log.Warn("the client of an sftp session has gone while the system has not answered", "err", context.Cause(s.ctx))
		return context.Cause(s.ctx)
	}
}

// takeFiles takes a place for an SFTP server, which gives it back when it has ended.
func (s *Server) takeFiles() bool {
	if s.files.Add(1) <= maxSFTP {
		return true
	}
	s.files.Add(-1)
	s.o.Tally.Drop(stats.DropSSHConnections, 1)
	return false
}

// sftpStream is the channel as the SFTP server sees it. That closes it only after
// an error, to end its own reading; the exit status must go out before.
type sftpStream struct {
	s      *session
	closed atomic.Bool
}

func (f *sftpStream) Read(p []byte) (int, error)  { return f.s.ch.Read(p) }
func (f *sftpStream) Write(p []byte) (int, error) { return f.s.ch.Write(p) }

func (f *sftpStream) Close() error {
	if f.closed.Swap(true) {
		return nil
	}
	f.s.sendStatus(1)
	return f.s.ch.Close()
}
