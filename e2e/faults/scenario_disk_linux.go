package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// smallDisk is the size of the agent's file system, in bytes.
const smallDisk = 1 << 20

// diskFull: the agent's state directory is on a file system that fills up. People
// notice nothing, and what is counted comes through.
func diskFull(ctx context.Context, w *world) error {
	dir := w.Path("small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700", smallDisk)); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	w.closers = append(w.closers, func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	ws, err := w.addWorkspace(ctx, "ws", "--state-dir", dir)
	if err != nil {
		return err
	}
	if err := w.awaitReport(ctx); err != nil {
		return err
	}
	if err := fill(dir + "/filler"); err != nil {
		return err
	}
	if err := errors.Join(pause(ctx, 5*time.Second), w.awaitReport(ctx)); err != nil {
		return fmt.Errorf("with a full disk: %w", err)
	}
	// Nor with nobody to report to.
	if err := errors.Join(w.killServer(ctx, 5*time.Second), w.awaitReport(ctx)); err != nil {
		return fmt.Errorf("with a full disk: %w", err)
	}
	if ws.agent.Exited() {
		return errors.New("the agent has ended")
	}
	if err := os.Remove(dir + "/filler"); err != nil {
		return err
	}
	return w.awaitReport(ctx)
}

// fill writes a file until there is no room.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 4096; size > 0; size /= 2 { // to the last byte
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
	}
	return nil
}

// diskUnwritable: the state directory cannot be made.
func diskUnwritable(ctx context.Context, w *world) error {
	file := w.Path("file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if _, err := w.addWorkspace(ctx, "ws", "--state-dir", file+"/state"); err != nil {
		return err
	}
	if err := w.awaitReport(ctx); err != nil {
		return err
	}
	return errors.Join(w.killServer(ctx, 2*time.Second), pause(ctx, 3*time.Second), w.awaitReport(ctx))
}
