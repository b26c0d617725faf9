package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/worktally/worktally/agent"
)

// Example embeds an agent in a workspace binary that has a metrics page, a
// logger and a life of its own. The program's context is what stops it.
func Example() {
	server, err := url.Parse("http://127.0.0.1:9") // where your server is
	if err != nil {
		fmt.Println(err)
		return
	}
	state, err := os.MkdirTemp("", "state") // a directory that outlives the process
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(state)
	terminals, err := net.Listen("unix", state+"/terminals")
	if err != nil {
		fmt.Println(err)
		return
	}
	registry := prometheus.NewRegistry() // the one that you have already

	a, err := agent.New(agent.Options{
		URL:         server,
		Token:       func(context.Context) (string, error) { return os.Getenv("MY_AGENT_TOKEN"), nil },
		StateDir:    state,
		LogDir:      state,
		PTYListener: terminals,
		Registerer:  registry,
		Executable:  "/usr/local/bin/worktally-agent", // what children call for git
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()

	fmt.Println(yourPageShows(registry, "agent_connected 0"))
	stop()
	err = <-ended // everything that the agent started has ended
	fmt.Println(errors.Is(err, agent.ErrReinit), err)
	// Output:
	// true
	// false <nil>
}

// yourPageShows asks the page of the embedding program until it has the line.
func yourPageShows(registry *prometheus.Registry, line string) bool {
	page := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		body, err := io.ReadAll(w.Result().Body)
		if err == nil && strings.Contains(string(body), line) {
			return true
		}
	}
	return false
}
