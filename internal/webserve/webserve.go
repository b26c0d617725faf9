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

// Options of a server.
type Options struct {
	// Handler answers the requests. Required.
	Handler http.Handler
	// ConfigFile is a web config file as Prometheus has it; "" means plain HTTP for
	// everybody who can reach the listener.
	ConfigFile string
	// ShutdownTimeout bounds how long running requests may take after the end of
	// the context; 0 means 5 s. Then they are cut.
	ShutdownTimeout time.Duration
	Log             *slog.Logger
}

// Validate checks a web config file without serving.
func Validate(configFile string) error {
	if configFile == "" {
		return nil
	}
	c, err := load(configFile)
	if err == nil && c.TLS.enabled() {
		_, err = c.TLS.build()
	}
	if err != nil {
		return fmt.Errorf("web config file %s: %w", configFile, err)
	}
	return nil
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
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           o.Handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
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
		return server.Serve(l)
	}
	c, err := load(o.ConfigFile)
	if err != nil {
		return err
	}
	server.Handler = newGuard(o.Handler, o.ConfigFile, c.RateLimit, o.Log)
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
