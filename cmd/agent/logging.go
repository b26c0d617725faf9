package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/worktally/worktally/agent"
	"github.com/worktally/worktally/internal/rotate"
)

// The rotation of log files (contract agent-cli.md section 3).
const (
	logLimit   = 5 << 20
	logBackups = 10
)

// logging opens all sinks of the log. close must be called at the end.
func (f flags) logging(p process) (log *slog.Logger, closeAll func(), err error) {
	var closers []io.Closer
	closeAll = func() {
		for _, c := range closers {
			_ = c.Close()
		}
	}
	var handlers []slog.Handler
	file, err := rotate.Open(filepath.Join(f.logDir(), agent.LogFile), logLimit, logBackups)
	if err != nil {
		// The agent's work matters more than its log.
		fmt.Fprintf(p.stderr, "worktally-agent: no log file: %v\n", err)
	} else {
		closers = append(closers, file)
		handlers = append(handlers, slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, sink := range []struct {
		flag, path string
		handler    func(io.Writer) slog.Handler
	}{
		{"--log-human (CODER_AGENT_LOGGING_HUMAN)", f.LogHuman, func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }},
		{"--log-json (CODER_AGENT_LOGGING_JSON)", f.LogJSON, func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }},
		{"--log-stackdriver (CODER_AGENT_LOGGING_STACKDRIVER)", f.LogStack, stackdriver},
	} {
		if sink.path == "" {
			continue
		}
		w, err := p.openSink(sink.path)
		if err != nil {
			closeAll()
			return nil, nil, usageErr{fmt.Errorf("%s: %w", sink.flag, err)}
		}
		if c, ok := w.(io.Closer); ok {
			closers = append(closers, c)
		}
		handlers = append(handlers, sink.handler(w))
	}
	return slog.New(slog.NewMultiHandler(handlers...)), closeAll, nil
}

func (f flags) logDir() string {
	if f.LogDir != "" {
		return f.LogDir
	}
	return os.TempDir()
}

// openSink opens a file for appending; the standard outputs are the process's
// and stay open.
func (p process) openSink(path string) (io.Writer, error) {
	switch path {
	case "/dev/stderr":
		return struct{ io.Writer }{p.stderr}, nil
	case "/dev/stdout":
		return struct{ io.Writer }{p.stdout}, nil
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// stackdriver writes JSON with the field names that Google's logging expects.
func stackdriver(w io.Writer) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) > 0 {
			return a
		}
		switch a.Key {
		case slog.LevelKey:
			severity := a.Value.String()
			if severity == "WARN" {
				severity = "WARNING"
			}
			return slog.String("severity", severity)
		case slog.MessageKey:
			a.Key = "message"
		}
		return a
	}})
}
