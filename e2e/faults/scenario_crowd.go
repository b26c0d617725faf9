package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"
)

const (
	crowdSessions  = 200
	crowdTerminals = 50
	// atTheDoor is how many let themselves in at once: there is a bound of those who
	// are not in yet, and a busy machine takes a while for each.
	atTheDoor = 32
	// warmUp is when the crowd needs all that it ever will.
	warmUp = time.Minute
)

// crowd: many sessions are open for a long time, and talk. Nothing grows.
func crowd(ctx context.Context, w *world) error {
	ws, err := w.addWorkspace(ctx, "ws")
	if err != nil {
		return err
	}
	return ws.whileTheyTalk(ctx, crowdSessions, crowdTerminals, func() error { return ws.measure(ctx, w.o.crowdTime) })
}

// whileTheyTalk does something while sessions and terminals are open, none of which
// may end before.
func (ws *workspace) whileTheyTalk(ctx context.Context, sessions, terminals int, do func() error) error {
	chatting, hangUp := context.WithCancel(ctx)
	defer hangUp()
	var group sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	chat := func(n int, open func(context.Context) error) {
		for range n {
			group.Go(func() {
				if err := open(chatting); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			})
		}
	}
	door := make(chan struct{}, atTheDoor)
	chat(sessions, func(ctx context.Context) error { return ws.chatSSH(ctx, door) })
	chat(terminals, ws.chatTerminal)
	err := do()
	hangUp()
	group.Wait()
	return errors.Join(append(errs, err)...)
}

// measure compares what the programs need when the crowd is there with what they
// need at the end.
func (ws *workspace) measure(ctx context.Context, d time.Duration) error {
	if err := pause(ctx, min(warmUp, d/2)); err != nil {
		return err
	}
	read := func() (agent, server usage, err error) {
		if agent, err = usageOf(ctx, ws.agent.Program, ws.agent.Page); err != nil {
			return agent, server, err
		}
		server, err = usageOf(ctx, ws.w.server.Program, ws.w.server.Page)
		return agent, server, err
	}
	agent, server, err := read()
	if err != nil {
		return err
	}
	if err := pause(ctx, d-min(warmUp, d/2)); err != nil {
		return err
	}
	agentNow, serverNow, err := read()
	ws.w.r.Notes = append(ws.w.r.Notes, fmt.Sprintf("the agent needed %s, then %s", agent, agentNow), fmt.Sprintf("the server needed %s, then %s", server, serverNow))
	return errors.Join(err, grown("the agent", agent, agentNow), grown("the server", server, serverNow))
}

// chatSSH holds a session open and sees every second that it lives.
func (ws *workspace) chatSSH(ctx context.Context, door chan struct{}) error {
	door <- struct{}{}
	client, err := connectSSH(ctx, ws.load.addr, ws.load.signer, ws.w.o.crowdTime+patience)
	<-door
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.NewSession()
	if err != nil {
		return err
	}
	defer s.Close()
	in, errIn := s.StdinPipe()
	out, errOut := s.StdoutPipe()
	opened := ws.model.try()
	if err := errors.Join(errIn, errOut, s.Start("exec cat")); err != nil {
		return err
	}
	opened()
	lines := bufio.NewReader(out)
	for i := 0; pause(ctx, time.Second) == nil; i++ {
		want := fmt.Sprintf("%d\n", i)
		if _, err := io.WriteString(in, want); err != nil {
			return err
		}
		if got, err := lines.ReadString('\n'); err != nil || got != want {
			return fmt.Errorf("a held session answered %q: %w", got, err)
		}
	}
	return errors.Join(in.Close(), ignoreMissing(s.Wait()))
}

// ignoreMissing: a command that is hung up on may end without a word.
func ignoreMissing(err error) error {
	if missing := new(ssh.ExitMissingError); errors.As(err, &missing) {
		return nil
	}
	return err
}

// chatTerminal does the same with a reconnecting terminal.
func (ws *workspace) chatTerminal(ctx context.Context) error {
	conn, err := net.Dial("tcp", ws.agent.PTY.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	hello, err := json.Marshal(map[string]any{
		"ID": uuid.NewString(), "Height": 24, "Width": 80, "Command": "", "Container": "", "ContainerUser": "", "BackendType": "buffered",
	})
	if err != nil {
		return err
	}
	opened := ws.model.try()
	if _, err := conn.Write(append(binary.LittleEndian.AppendUint16(nil, uint16(len(hello))), hello...)); err != nil {
		return err
	}
	for i := 0; pause(ctx, time.Second) == nil; i++ {
		// What is echoed is not what is answered.
		if _, err := fmt.Fprintf(conn, `{"data":"echo $((%d+1))-is-next\r"}`, i); err != nil {
			return err
		}
		if err := readUntil(conn, fmt.Sprintf("%d-is-next", i+1)); err != nil {
			return err
		}
		if i == 0 {
			opened()
		}
	}
	return nil
}

func readUntil(conn net.Conn, text string) error {
	if err := conn.SetReadDeadline(time.Now().Add(sessionLimit)); err != nil {
		return err
	}
	var seen strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(seen.String(), text) {
		n, err := conn.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			return fmt.Errorf("a terminal said %q: %w", seen.String(), err)
		}
	}
	return nil
}
