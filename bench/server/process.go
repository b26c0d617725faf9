package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/worktally/worktally/bench/proc"
	"github.com/worktally/worktally/internal/freeport"
	"github.com/worktally/worktally/internal/retry"
)

// installation is where a server runs: it may be stopped and started again there.
type installation struct {
	bin, dir   string
	http, prom string
	// env is for what is no flag.
	env []string
}

func newInstallation(bin, dir string) (*installation, error) {
	in := &installation{bin: bin, dir: dir}
	for _, address := range []*string{&in.http, &in.prom} {
		port, err := freeport.Get()
		if err != nil {
			return nil, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return in, nil
}

// server is the real program in a process of its own.
type server struct {
	in     *installation
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	exited chan struct{}
}

// start starts the server and waits until it is ready. interval is what it tells
// its agents.
func (in *installation) start(ctx context.Context, interval time.Duration) (*server, error) {
	s := &server{in: in, stderr: &bytes.Buffer{}, exited: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, filepath.Join(in.bin, "worktally"), "server",
		"--http-address", in.http, "--state-dir", in.dir, "--agent-stats-refresh-interval", interval.String(),
		"--prometheus-enable", "--prometheus-address", in.prom, "--prometheus-collect-agent-stats")
	s.cmd.Env = append(os.Environ(), in.env...)
	s.cmd.Stderr = &tail{b: s.stderr}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // it is killed in the end
		close(s.exited)
	}()
	for {
		if resp, err := http.Get("http://" + in.prom + "/-/ready"); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s, nil
			}
		}
		select {
		case <-s.exited:
			return nil, fmt.Errorf("the server ended: %s", s.stderr)
		default:
		}
		if err := retry.Sleep(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// kill ends it at once and waits for the end.
func (s *server) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-s.exited
}

func (s *server) cpuSeconds() (float64, error) { return proc.CPUSeconds(s.cmd.Process.Pid) }

func (s *server) memory() (now, most float64, err error) { return proc.Memory(s.cmd.Process.Pid) }

// scrape reads the whole page as Prometheus asks for it, and returns its size.
func (s *server) scrape(ctx context.Context) (int64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.in.prom+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Accept", openAccept)
	r.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.Copy(io.Discard, resp.Body)
}

// tail keeps the last that was written, for the case that something breaks. One
// goroutine writes; it is read when that has ended.
type tail struct{ b *bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	if t.b.Len() > 64<<10 {
		t.b.Reset()
	}
	return t.b.Write(p)
}
