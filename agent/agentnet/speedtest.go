package agentnet

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The speed test's protocol (contract tailnet.md section 8).
const (
	speedVersion   = 2
	speedBlock     = 2 << 20
	speedMaxLine   = 4096
	speedMaxTime   = time.Minute
	speedHelloTime = 10 * time.Second
)

type speedHello struct {
	Version   int           `json:"version"`
	Time      time.Duration `json:"time"`
	Direction int           `json:"direction"` // the client's: 0 download, 1 upload
}

type speedAnswer struct {
	Error string `json:"error,omitempty"`
}

// Speedtest serves one speed test on conn and closes it.
func Speedtest(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(speedHelloTime))
	in := bufio.NewReaderSize(conn, speedMaxLine)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("speed test: read hello: %w", err)
	}
	var hello speedHello
	if err := json.Unmarshal(line, &hello); err != nil {
		return answer(conn, fmt.Errorf("read hello: %w", err))
	}
	switch {
	case hello.Version != speedVersion:
		return answer(conn, fmt.Errorf("version %d is not spoken here, only %d", hello.Version, speedVersion))
	case hello.Time <= 0 || hello.Time > speedMaxTime:
		return answer(conn, fmt.Errorf("a test takes up to %s, not %s", speedMaxTime, hello.Time))
	case hello.Direction != 0 && hello.Direction != 1:
		return answer(conn, fmt.Errorf("unknown direction %d", hello.Direction))
	}
	if err := answer(conn, nil); err != nil {
		return err
	}
	if hello.Direction == 0 {
		return sendBlocks(conn, hello.Time)
	}
	_ = conn.SetDeadline(time.Now().Add(4 * hello.Time))
	if _, err := io.Copy(io.Discard, in); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("speed test: receive: %w", err)
	}
	return nil
}

// answer tells the client what is wrong, or that nothing is.
func answer(conn net.Conn, problem error) error {
	a := speedAnswer{}
	if problem != nil {
		a.Error = problem.Error()
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if _, err := conn.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("speed test: answer: %w", err)
	}
	if problem != nil {
		return fmt.Errorf("speed test: %w", problem)
	}
	return nil
}

// sendBlocks sends random data until the time is over.
func sendBlocks(conn net.Conn, d time.Duration) error {
	block := make([]byte, speedBlock)
	_, _ = rand.Read(block) // never fails
	until := time.Now().Add(d)
	_ = conn.SetDeadline(until.Add(speedHelloTime))
	for time.Now().Before(until) {
		if _, err := conn.Write(block); err != nil {
			return fmt.Errorf("speed test: send: %w", err)
		}
	}
	return nil
}
