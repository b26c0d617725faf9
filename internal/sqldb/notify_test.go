package sqldb

import (
	"net/url"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/faultnet"
)

// TestListen_SilentHost: the host of the database is gone and nothing says so. Whoever
// listens notices, so that he can listen to another one; while the host lives he may
// hear nothing for as long as it takes.
func TestListen_SilentHost(t *testing.T) {
	dsn, err := url.Parse(cluster.DSN(t))
	if err != nil {
		t.Fatal(err)
	}
	network, err := faultnet.ListenLoopback("tcp", dsn.Host, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer network.Close()
	dsn.Host = network.Addr().String()
	db := open(t, dsn.String())
	db.quiet = 50 * time.Millisecond
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- db.Listen(t.Context(), "c", func(string) { close(began) }) }()
	<-began
	select {
	case err := <-ended:
		t.Fatalf("a connection that lives was given up: %v", err)
	case <-time.After(20 * db.quiet):
	}
	network.Set(faultnet.Faults{Stall: true})
	select {
	case err := <-ended:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(time.Minute):
		t.Fatal("nobody noticed")
	}
	network.Cut() // so that the pool can be closed
}
