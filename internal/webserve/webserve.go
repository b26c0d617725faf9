// Package webserve runs an HTTP server on a listener until a context ends, with
// TLS and users from a Prometheus web config file.
package webserve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// What a connection may cost before and between requests.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// Options of a server.
type Options struct {
	// Handler answers the requests. Required.
	Handler http.Handler
	// ConfigFile is a web config file as Prometheus has it; "" means plain HTTP for
	// everybody who can reach the listener.
	ConfigFile string
	// NoUsers says that the clients cannot send a user's name and password: a file
	// with users is a mistake, and lets nobody in.
	NoUsers bool
	// ShutdownTimeout bounds how long running requests may take after the end of
	// the context; 0 means 5 s. Then they are cut.
	ShutdownTimeout time.Duration
	// Bound bounds the connections that wait for a request; Bounded makes one. nil
	// bounds none: the agent's binary goes without.
	Bound Bound
	Log   *slog.Logger
}

// Validate checks a web config file without serving.
func Validate(configFile string) error {
	_, err := Inspect(configFile)
	return err
}

// Asks is what a web config file asks of clients.
type Asks struct{ TLS, Users bool }

// Inspect is Validate that also says what the file asks for.
func Inspect(configFile string) (Asks, error) {
	if configFile == "" {
		return Asks{}, nil
	}
	c, err := load(configFile)
	if err == nil && c.TLS.enabled() {
		_, err = c.TLS.build()
	}
	if err != nil {
		return Asks{}, fmt.Errorf("web config file %s: %w", configFile, err)
	}
	return Asks{TLS: c.TLS.enabled(), Users: len(c.Users) > 0}, nil
}

// Serve serves until the context ends, and takes over the listener. The end of
// the context is no error.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ShutdownTimeout <= 0 {
		o.ShutdownTimeout = 5 * time.Second
	}
	if o.Bound == nil {
		o.Bound = func(_ *http.Server, l net.Listener) net.Listener { return l }
	}
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           o.Handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		deadline, cancelDeadline := context.WithTimeout(context.WithoutCancel(ctx), o.ShutdownTimeout)
		defer cancelDeadline()
		if server.Shutdown(deadline) != nil {
			cancel()
			_ = server.Close()
		}
	})
	err := serve(server, l, o)
	if !stop() {
		<-stopped
	}
	_ = server.Close()
	_ = l.Close() // nothing served it if the web config file is bad
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// serve serves as the web config file says.
func serve(server *http.Server, l net.Listener, o Options) error {
	if o.ConfigFile == "" {
		l = o.Bound(server, l)
		return server.Serve(l)
	}
	c, err := load(o.ConfigFile)
	if err != nil {
		return err
	}
	guard := newGuard(o.Handler, o.ConfigFile, c.RateLimit, o.Log)
	guard.noUsers = o.NoUsers
	server.Handler = guard
	l = o.Bound(server, l)
	if !c.TLS.enabled() {
		return server.Serve(l)
	}
	protocols := []string{"h2", "http/1.1"}
	if !c.HTTP.HTTP2 {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		protocols = protocols[1:]
	}
	// Every connection reads the file again: certificates are renewed without us.
	server.TLSConfig = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := load(o.ConfigFile)
		if err != nil {
			return nil, err
		}
		t, err := c.TLS.build()
		if err == nil {
			t.NextProtos = protocols
		}
		return t, err
	}}
	return server.ServeTLS(l, "", "")
}
