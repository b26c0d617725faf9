package reportclient

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"testing"
	"time"

	"storj.io/drpc"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func TestMain(m *testing.M) { testtool.Main(m) }

// logBuffer is a log that tests read.
type logBuffer struct{ testtool.Buffer }

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func serverURL() *url.URL { return &url.URL{Scheme: "http", Host: "server.test"} }

// newClient returns a client whose options the caller may change.
func newClient(t testing.TB, change func(*Options)) *Client {
	t.Helper()
	o := Options{
		URL:        serverURL(),
		Token:      func(context.Context) (string, error) { return wiretest.Token, nil },
		Tally:      stats.New(stats.Options{}),
		Version:    "v1.2.3",
		OnManifest: func(context.Context, *agentpb.Manifest) (string, error) { return "/home/coder/project", nil },
	}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start runs the client until the test, or the returned function, ends it.
func start(t testing.TB, c *Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// connect runs a client of a real server.
func connect(t testing.TB, s *wiretest.Server, change func(*Options)) (c *Client, stop func()) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c = newClient(t, func(o *Options) {
		o.URL, o.HTTPClient = s.URL, &http.Client{Transport: transport}
		o.ReconnectMin, o.ReconnectMax = time.Millisecond, 20*time.Millisecond
		if change != nil {
			change(o)
		}
	})
	return c, start(t, c)
}

// direct makes a client dial the service without a network, for synctest.
func direct(c *Client, s *wiretest.Service) {
	c.open = func(context.Context) (drpc.Conn, error) { return s.NewConn(), nil }
}
