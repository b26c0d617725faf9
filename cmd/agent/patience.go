package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/worktally/worktally/internal/retry"
)

// How long a taken address is tried again. The page does without its address, and
// an agent beside another one shall not start late for it.
const (
	takenPatience = 2 * time.Second
	pagePatience  = 250 * time.Millisecond
)

// listenPatiently listens on a TCP address, and waits if it is taken: when an agent
// is killed, a child that it was about to start holds its listeners for some
// milliseconds more, until it becomes another program.
func listenPatiently(ctx context.Context, address string, patience time.Duration, log *slog.Logger) (net.Listener, error) {
	end := time.Now().Add(patience)
	for told := false; ; told = true {
		l, err := net.Listen("tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			return l, err
		}
		if !told {
			log.Warn("the address is taken; trying again", "address", address, "for", patience.String())
		}
		if retry.Sleep(ctx, 20*time.Millisecond) != nil {
			return nil, err
		}
	}
}
