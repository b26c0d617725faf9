package client

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Direction of a speed test, as the client sees it.
type Direction int

// The directions.
const (
	Download Direction = iota
	Upload
)

// Speed is the result of a speed test.
type Speed struct {
	Bytes    int64
	Duration time.Duration
}

// MbitPerSecond is the rate.
func (s Speed) MbitPerSecond() float64 {
	if s.Duration <= 0 {
		return 0
	}
	return float64(s.Bytes) * 8 / 1e6 / s.Duration.Seconds()
}

const speedBlock = 2 << 20

// Speedtest moves data in one direction for the given time.
func (c *Conn) Speedtest(ctx context.Context, direction Direction, d time.Duration) (Speed, error) {
	conn, err := c.DialPort(ctx, portSpeedtest)
	if err != nil {
		return Speed{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	hello, err := json.Marshal(map[string]any{"version": 2, "time": d, "direction": int(direction)})
	if err != nil {
		return Speed{}, err
	}
	if _, err := conn.Write(append(hello, '\n')); err != nil {
		return Speed{}, fmt.Errorf("speed test: %w", err)
	}
	in := bufio.NewReader(conn)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return Speed{}, fmt.Errorf("speed test: %w", err)
	}
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return Speed{}, fmt.Errorf("speed test: %w", err)
	}
	if answer.Error != "" {
		return Speed{}, errors.New("speed test: " + answer.Error)
	}
	start := time.Now()
	var n int64
	if direction == Download {
		n, err = io.Copy(io.Discard, in)
	} else {
		n, err = sendFor(conn, start.Add(d))
	}
	if err != nil && n == 0 {
		return Speed{}, fmt.Errorf("speed test: %w", err)
	}
	return Speed{Bytes: n, Duration: time.Since(start)}, nil
}

func sendFor(w io.Writer, until time.Time) (n int64, err error) {
	block := make([]byte, speedBlock)
	_, _ = rand.Read(block) // never fails
	for time.Now().Before(until) {
		m, err := w.Write(block)
		n += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
