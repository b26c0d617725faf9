package reportclient

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/worktally/worktally/internal/retry"
)

// errNoReinit: the server will never ask this agent to start over.
var errNoReinit = errors.New("the workspace is not prebuilt")

// maxEventLine bounds a line of the event stream.
const maxEventLine = 64 << 10

// watchReinit listens for the server's request to start over (contract
// agent-api.md section 3.3) until it comes, the server says that it never will,
// or the context ends.
func (c *Client) watchReinit(ctx context.Context) {
	delay := retry.New(c.o.ReconnectMin, c.o.ReconnectMax)
	for ctx.Err() == nil {
		began := time.Now()
		reason, err := c.awaitReinit(ctx)
		switch {
		case err == nil:
			c.log.Info("the server asks the agent to start over", "reason", reason)
			c.o.OnReinit(reason)
			return
		case errors.Is(err, errNoReinit):
			c.log.Debug("not listening for reinitialisation", "err", err)
			return
		}
		c.log.Debug("listen for reinitialisation", "err", err)
		if time.Since(began) >= c.o.ReconnectMax {
			delay.Reset()
		}
		if delay.Wait(ctx) != nil {
			return
		}
	}
}

func (c *Client) awaitReinit(ctx context.Context) (reason string, err error) {
	h, err := c.header(ctx)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.endpoint(reinitPath, url.Values{"wait": {"true"}}).String(), nil)
	if err != nil {
		return "", err
	}
	req.Header = h
	resp, err := c.o.HTTPClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return readReinit(resp.Body)
	case http.StatusConflict:
		return "", errNoReinit
	}
	return "", errors.New(answerText(resp))
}

// readReinit reads server-sent events up to the first of type data.
func readReinit(body io.Reader) (reason string, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxEventLine)
	event := ""
	for lines.Scan() {
		line := lines.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "event":
			event = value
		case field == "data" && event == "data":
			var e struct {
				Reason string `json:"reason"`
			}
			if err := json.Unmarshal([]byte(value), &e); err != nil {
				return "", fmt.Errorf("read event: %w", err)
			}
			return e.Reason, nil
		case line == "":
			event = ""
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read events: %w", err)
	}
	return "", io.EOF
}
