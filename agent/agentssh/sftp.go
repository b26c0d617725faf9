package agentssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/pkg/sftp"

	"github.com/worktally/worktally/agent/stats"
)

// sftpPacket is the most that one answer to a read carries.
const sftpPacket = 256 << 10

// runSFTP serves files, starting in the home of the user.
func (s *session) runSFTP() outcome {
	srv := s.c.srv
	srv.o.Tally.SFTPOpened()
	home, err := srv.o.Commands.Home()
	if err != nil {
		srv.o.Tally.SFTPFailed()
		return s.fail(stats.ErrCreateCommand, err)
	}
	stream := &sftpStream{s: s}
	server, err := sftp.NewServer(stream,
		sftp.WithAllocator(),
		sftp.WithMaxTxPacket(sftpPacket),
		sftp.WithServerWorkingDirectory(home))
	if err != nil {
		srv.o.Tally.SFTPFailed()
		return refusal(1, fmt.Sprintf("sftp server closed with error: %v", err))
	}
	stop := context.AfterFunc(s.ctx, func() { s.ch.Close() })
	defer stop()
	err = server.Serve()
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
