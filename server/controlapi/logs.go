package controlapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
)

const (
	// maxLines bounds the lines of one answer, or of one message.
	maxLines = 1024
	// followEvery is how often it is looked for new lines.
	followEvery = 500 * time.Millisecond
	// followWrite bounds how long a client may take to read a message.
	followWrite = 15 * time.Second
)

// clientLogLine is one line of an agent's log.
type clientLogLine struct {
	ID        int64     `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	Output    string    `json:"output"`
	Level     string    `json:"level"`
	SourceID  uuid.UUID `json:"source_id"`
}

func asLogLines(lines []catalog.LogLine) []clientLogLine {
	out := make([]clientLogLine, len(lines))
	for i, l := range lines {
		out[i] = clientLogLine{ID: l.Seq, CreatedAt: l.CreatedAt, Output: l.Output, Level: strings.ToLower(l.Level.String()), SourceID: l.SourceID}
	}
	return out
}

// agentLogs returns the log of an agent, oldest line first, from the line that
// after names on; with follow, over a websocket as it grows.
func (a *API) agentLogs(w http.ResponseWriter, r *http.Request, who catalog.User) {
	id, ok := a.findAgent(w, r, who)
	if !ok {
		return
	}
	query := r.URL.Query()
	after, err := number(query.Get("after"))
	if err != nil {
		a.badQuery(w, "after", err)
		return
	}
	if query.Has("follow") && query.Get("follow") != "false" {
		a.followLogs(w, r, who, id.Agent.ID, int64(after))
		return
	}
	all := []clientLogLine{}
	for last := int64(after); ; {
		lines, err := a.o.Catalog.Logs(r.Context(), id.Agent.ID, last, maxLines)
		if err != nil {
			a.failErr(w, r, err)
			return
		}
		if len(lines) > 0 {
			all, last = append(all, asLogLines(lines)...), lines[len(lines)-1].Seq
		}
		if len(lines) < maxLines || len(all) >= maxAnswerLines {
			break
		}
	}
	a.reply(w, http.StatusOK, all)
}

// maxAnswerLines bounds an answer: an agent's log is bounded by its bytes, and may
// be all empty lines.
const maxAnswerLines = 64 * maxLines

func (a *API) followLogs(w http.ResponseWriter, r *http.Request, who catalog.User, agent uuid.UUID, after int64) {
	s := &session{user: who, agent: agent}
	ctx, done, ok := a.begin(w, r, s, func() error { return a.mayReach(r, who, agent) })
	if !ok {
		return
	}
	defer done()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		a.o.Log.Debug("upgrade to websocket", "err", err) // Accept has answered
		return
	}
	defer ws.CloseNow()
	// Clients say nothing; reading notices when they are gone.
	if err := a.sendLines(ws.CloseRead(ctx), ws, agent, after); err != nil {
		a.o.Log.Debug("following a log ended", "agent_id", agent, "err", err)
	}
}

// sendLines sends the lines as they come, each message an array of some.
func (a *API) sendLines(ctx context.Context, ws *websocket.Conn, agent uuid.UUID, after int64) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		lines, err := a.o.Catalog.Logs(ctx, agent, after, maxLines)
		if err != nil {
			return err
		}
		if len(lines) > 0 {
			text, err := json.Marshal(asLogLines(lines))
			if err != nil {
				panic("BUG: controlapi: encode log: " + err.Error())
			}
			writeCtx, cancel := context.WithTimeout(ctx, followWrite)
			err = ws.Write(writeCtx, websocket.MessageText, text)
			cancel()
			if err != nil {
				return err
			}
			after = lines[len(lines)-1].Seq
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ws.Close(websocket.StatusGoingAway, "the session has ended")
		}
	}
}
