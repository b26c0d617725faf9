package agentapi_test

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
)

// FuzzUpdateStats sends any bytes as a report. The session must serve the next
// call, and the page must not break.
func FuzzUpdateStats(f *testing.F) {
	w := newWorld(f, setup{})
	o := ours{w, newID()}
	for _, m := range []proto.Message{
		stockStats(1, 2, counter("agent_x_total", 1, "a", "b"), gauge("agent_session_duration_seconds_bucket", 1)),
		o.report(o.window(1, 1)), o.report(o.window(2, 0), o.window(1, 5)), &agentpb.UpdateStatsRequest{},
	} {
		b, err := proto.Marshal(m)
		must(f, err)
		f.Add(b)
	}
	f.Add(vectors.Read(f, "rpc/028-UpdateStats-request.pb"))
	p := w.dial()
	defer func() { w.t = f }()
	f.Fuzz(func(t *testing.T, b []byte) {
		w.t = t
		if len(b) > wire.MaxMessage/2 {
			return
		}
		// Errors are answers; what counts is what comes after.
		_ = p.Invoke(t.Context(), "/coder.agent.v2.Agent/UpdateStats", rawEncoding{}, b, nil)
		if _, err := p.GetAnnouncementBanners(t.Context(), &agentpb.GetAnnouncementBannersRequest{}); err != nil {
			t.Fatalf("the session is dead: %v", err)
		}
		if n := w.count("worktally_agent_rejected_total", "reason", "panic"); n != "0" {
			t.Fatal("a call panicked")
		}
		page := w.publisher.Page()
		var out bytes.Buffer
		must(t, page.Write(&out, exposition.Text))
		for line := range bytes.Lines(out.Bytes()) {
			if line[0] != '#' && bytes.IndexByte(line, ' ') <= 0 {
				t.Fatalf("line %q of the page", line)
			}
		}
	})
}
