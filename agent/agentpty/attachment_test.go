package agentpty

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"
)

// pipeAttachment returns an attachment and the client's end of its connection.
func pipeAttachment(t *testing.T, limit int) (*attachment, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return newAttachment(ours, Options{QueueBytes: limit, WriteTimeout: 30 * time.Second}), theirs
}

func TestAttachment_SlowClientGetsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, client := pipeAttachment(t, 100)
		var want []byte
		written := make(chan error, 1)
		go func() { written <- a.run() }()
		got := make(chan []byte, 1)
		go func() {
			var all []byte
			buf := make([]byte, 50)
			for {
				time.Sleep(time.Second) // slower than the output, faster than patience
				n, err := client.Read(buf)
				all = append(all, buf[:n]...)
				if err != nil {
					got <- all
					return
				}
			}
		}()
		for i := range 100 {
			chunk := bytes.Repeat([]byte{byte('a' + i%26)}, 1+i%50)
			want = append(want, chunk...)
			if !a.enqueue(chunk, 5*time.Second) {
				t.Fatalf("chunk %d was refused", i)
			}
		}
		a.finish()
		if err := <-written; err != nil {
			t.Error(err)
		}
		a.conn.Close()
		if all := <-got; !bytes.Equal(all, want) {
			t.Errorf("the client got %d bytes, want %d", len(all), len(want))
		}
		if a.enqueue([]byte("x"), time.Second) {
			t.Error("a finished attachment takes output")
		}
	})
}

func TestAttachment_StuckClientIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pipeAttachment(t, 100)
		written := make(chan error, 1)
		go func() { written <- a.run() }()
		began := time.Now()
		for range 3 { // one is being written, one waits, one is too much
			a.enqueue(make([]byte, 100), 2*time.Second)
			synctest.Wait()
		}
		if err := <-written; !errors.Is(err, errTooSlow) || time.Since(began) != 2*time.Second {
			t.Errorf("writer ended with %v after %s", err, time.Since(began))
		}
	})
}

func TestAttachment_SingleWriteIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := pipeAttachment(t, 100)
		a.enqueue([]byte("x"), time.Second)
		began := time.Now()
		if err := a.run(); !errors.Is(err, errTooSlow) || time.Since(began) != 30*time.Second {
			t.Errorf("writer ended with %v after %s", err, time.Since(began))
		}
	})
}

func TestProcess_AttachAfterTheEnd(t *testing.T) {
	f := newFixture(t, nil)
	p, err := f.s.startProcess(failures{}, hello{}, func(ctx context.Context) (*exec.Cmd, error) {
		return exec.CommandContext(ctx, "echo", "last words"), nil
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	a, client := pipeAttachment(t, replayBytes)
	p.attach(a)
	written := make(chan error, 1)
	go func() {
		written <- a.run()
		a.conn.Close()
	}()
	got, err := io.ReadAll(client)
	if err != nil || string(got) != "last words\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
