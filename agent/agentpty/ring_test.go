package agentpty

import (
	"bytes"
	"strings"
	"testing"
)

func TestRing_Replay(t *testing.T) {
	full := strings.Repeat("x", replayBytes)
	tests := []struct {
		name   string
		writes []string
		want   string
	}{
		{"nothing", nil, ""},
		{"little", []string{"ab", "c"}, "abc"},
		{"exactly full", []string{full}, full},
		{"one more, no place to start", []string{full, "y"}, full[1:] + "y"},
		{"starts at a line", []string{"abc\ndef", full[5:]}, "def" + full[5:]},
		{"starts at an escape sequence", []string{"abc\x1b[1mdef", full[8:]}, "\x1b[1mdef" + full[8:]},
		{"does not start inside a rune", []string{"é", full[1:]}, full[1:]},
		{"more than all at once", []string{"old", full + "new"}, full[3:] + "new"},
		{"twice around", []string{full, full, "z"}, full[1:] + "z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r ring
			for _, w := range tt.writes {
				r.write([]byte(w))
			}
			if got := string(r.replay()); got != tt.want {
				t.Errorf("replay of %d bytes %.20q, want %d bytes %.20q", len(got), got, len(tt.want), tt.want)
			}
		})
	}
}

func FuzzRing(f *testing.F) {
	f.Add([]byte("hello\nworld\x1b[0m"), 3, 70000)
	f.Fuzz(func(t *testing.T, data []byte, step, total int) {
		if len(data) == 0 {
			return
		}
		step, total = max(1, min(step, 100_000)), min(max(total, 0), 200_000)
		var r ring
		var all []byte
		for len(all) < total {
			chunk := bytes.Repeat(data, step/len(data)+1)[:step]
			all = append(all, chunk...)
			r.write(chunk)
		}
		if got := r.replay(); !bytes.HasSuffix(all, got) || len(got) > replayBytes || len(all) <= replayBytes && len(got) != len(all) {
			t.Fatalf("replay of %d bytes after %d", len(got), len(all))
		}
	})
}
