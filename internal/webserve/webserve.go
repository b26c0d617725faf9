// Package webserve runs an HTTP server on a listener until a context ends, with
// TLS and users from a Prometheus web config file.
package webserve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
)

// Options of a server.
type Options struct {
	// Handler answers the requests. Required.
	Handler http.Handler
	// ConfigFile is a web config file of the exporter toolkit; "" means plain HTTP
	// for everybody who can reach the listener.
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
	if err := web.Validate(configFile); err != nil {
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
	no := false
	addresses := []string{l.Addr().String()}
	err := web.Serve(l, server, &web.FlagConfig{
		WebListenAddresses: &addresses, WebSystemdSocket: &no, WebConfigFile: &o.ConfigFile,
	}, slog.New(slog.DiscardHandler))
	if !stop() {
		<-stopped
	}
	_ = server.Close()
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}
