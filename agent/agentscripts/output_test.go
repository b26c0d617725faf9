package agentscripts

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func newOutput(maxLine int) (*output, *[]string, *bytes.Buffer) {
	var lines []string
	var file bytes.Buffer
	return &output{
		emit:    func(_ slog.Level, text string) { lines = append(lines, text) },
		maxLine: maxLine, file: &file, budget: newBudget(1<<20, 1<<20),
	}, &lines, &file
}

func TestStream_Lines(t *testing.T) {
	tests := []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"whole lines", []string{"a\nb\n"}, []string{"a", "b"}},
		{"a line in pieces", []string{"a", "b", "c\nd"}, []string{"abc", "d"}},
		{"carriage returns", []string{"a\r\n\r\nb\rc\r"}, []string{"a", "", "b\rc"}},
		{"empty lines", []string{"\n\n"}, []string{"", ""}},
		{"a long line is continued", []string{"0123456789abcdef01\nx\n"}, []string{"01234567", "89abcdef", "01", "x"}},
		{"a long line in pieces", []string{"0123", "456789", "ab\n"}, []string{"01234567", "89ab"}},
		{"a rune is not cut", []string{"1234567é9\n"}, []string{"1234567", "é9"}},
		{"bytes that are no text", []string{"\xff\xff\xff\xff\xff\xff\xff\xff\xff\n"}, []string{"\xff\xff\xff\xff\xff\xff\xff\xff", "\xff"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, lines, file := newOutput(8)
			s := &stream{out: out}
			for _, c := range tt.chunks {
				if n, err := s.Write([]byte(c)); n != len(c) || err != nil {
					t.Fatal(n, err)
				}
			}
			s.flush()
			if diff := cmp.Diff(tt.want, *lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
			if got := file.String(); got != strings.Join(tt.chunks, "") {
				t.Errorf("file = %q", got)
			}
		})
	}
}

func TestBudget_Refills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(100, 1000)
		if !b.take(1000) || b.take(1) {
			t.Fatal("the burst is not the bound")
		}
		time.Sleep(500 * time.Millisecond)
		if !b.take(50) || b.take(1) {
			t.Error("half a second is worth 50 bytes")
		}
		time.Sleep(time.Hour)
		if !b.take(1000) || b.take(1) {
			t.Error("a pause is worth no more than the burst")
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("hello\r\nwörld\nlong long long line without end"), 3)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		out, lines, file := newOutput(16)
		s := &stream{out: out}
		step = max(1, min(step, 64))
		for rest := data; len(rest) > 0; {
			n := min(step, len(rest))
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		s.flush()
		if !bytes.Equal(file.Bytes(), data) && len(data) < 1<<20 {
			t.Fatalf("file = %q, want %q", file.Bytes(), data)
		}
		valid := utf8.Valid(data)
		for _, l := range *lines {
			if len(l) > 16 || strings.Contains(l, "\n") || valid && !utf8.ValidString(l) {
				t.Fatalf("line %q", l)
			}
		}
	})
}
