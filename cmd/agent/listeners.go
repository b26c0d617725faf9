package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
)

// listenMetrics opens the metrics page. A taken port costs a workspace its page
// nowhere else; here a free port takes its place, and files in the state
// directory tell which.
func listenMetrics(ctx context.Context, address, stateDir string, log *slog.Logger) net.Listener {
	if address == "" {
		return nil
	}
	l, err := listenPatiently(ctx, address, pagePatience, log)
	if err != nil {
		host, _, splitErr := net.SplitHostPort(address)
		if splitErr != nil {
			log.Error("no metrics page: --prometheus-address is no address", "address", address, "err", err)
			return nil
		}
		taken := err
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			log.Error("no metrics page", "address", address, "err", errors.Join(taken, err))
			return nil
		}
		log.Warn("THE METRICS PAGE IS ON ANOTHER PORT because the usual one is taken", "wanted", address, "address", l.Addr().String(), "err", taken)
	}
	if err := writeAddress(stateDir, l.Addr().String()); err != nil {
		log.Warn("write the address of the metrics page", "err", err)
	}
	return l
}

// The files that tell where the metrics page is.
const (
	addressFile = "metrics-address"
	fileSDFile  = "metrics-file-sd.json"
)

// writeAddress writes the address, plain and as a target file for Prometheus's
// file_sd_configs.
func writeAddress(stateDir, address string) error {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return err
	}
	targets, err := json.Marshal([]map[string]any{{"targets": []string{address}}})
	if err != nil {
		return err
	}
	// The address comes last: who waits for it finds the other file.
	for _, f := range [2][2]string{{fileSDFile, string(targets)}, {addressFile, address}} {
		path := filepath.Join(stateDir, f[0])
		if err := os.WriteFile(path+".tmp", []byte(f[1]+"\n"), 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".tmp", path); err != nil {
			return err
		}
	}
	return nil
}

// listenSocket opens a unix socket that only the user can reach. One that a dead
// agent left is replaced.
func listenSocket(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("%s exists and is no socket", path)
		}
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("%s is in use", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func pprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
