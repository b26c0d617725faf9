package agentscripts

import (
	"strings"
	"testing"
	"time"
)

func TestParseSchedule(t *testing.T) {
	from := time.Date(2026, 3, 28, 12, 0, 0, 500, time.UTC) // a Saturday
	tests := []struct{ name, spec, want, wantErr string }{
		{name: "six fields", spec: "30 0 8 * * 1", want: "2026-03-30T08:00:30Z"},
		{name: "the day of week is optional", spec: "*/10 * * * *", want: "2026-03-28T12:00:10Z"},
		{name: "names", spec: "0 0 0 1 JAN MON", want: "2027-01-01T00:00:00Z"},
		{name: "a descriptor", spec: "@daily", want: "2026-03-29T00:00:00Z"},
		{name: "a period", spec: "@every 90s", want: "2026-03-28T12:01:30Z"},
		{name: "a zone", spec: "CRON_TZ=Asia/Tokyo 0 0 6 * * *", want: "2026-03-28T21:00:00Z"},
		{name: "the short form of a zone", spec: "TZ=UTC @hourly", want: "2026-03-28T13:00:00Z"},
		{name: "summer time begins in the night", spec: "CRON_TZ=Europe/Berlin 0 30 3 * * *", want: "2026-03-29T01:30:00Z"},
		{name: "blanks around", spec: "  0 0 13 * * *\n", want: "2026-03-28T13:00:00Z"},
		{name: "February 30 never comes", spec: "0 0 0 30 2 *", want: "0001-01-01T00:00:00Z"},
		{name: "nothing", spec: "", wantErr: "have 0"},
		{name: "four fields", spec: "* * * *", wantErr: "have 4"},
		{name: "seven fields", spec: "* * * * * * *", wantErr: "have 7"},
		{name: "out of range", spec: "0 60 * * * *", wantErr: "above maximum"},
		{name: "a step of zero", spec: "*/0 * * * * *", wantErr: "step"},
		{name: "a list of nothing", spec: ", * * * *", wantErr: "empty list item"},
		{name: "a list with a hole", spec: "1,,2 * * * *", wantErr: "empty list item"},
		{name: "a zone alone", spec: "TZ=UTC", wantErr: "time zone needs"},
		{name: "a zone without name", spec: "CRON_TZ= * * * * *", wantErr: "time zone needs"},
		{name: "an unknown zone", spec: "CRON_TZ=Moon/Base * * * * *", wantErr: "bad location"},
		{name: "a path as zone", spec: "TZ=../../etc/passwd * * * * *", wantErr: "bad location"},
		{name: "a negative period", spec: "@every -5s", wantErr: "shorter than a second"},
		{name: "no period", spec: "@every soon", wantErr: "no duration"},
		{name: "an unknown descriptor", spec: "@reboot", wantErr: "unrecognized"},
		{name: "control characters", spec: "*\x00* * * * *", wantErr: "not allowed"},
		{name: "very long", spec: strings.Repeat("1,", 1000), wantErr: "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSchedule(tt.spec)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("error = %v, want one line with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Next(from).UTC().Format(time.RFC3339); got != tt.want {
				t.Errorf("next = %s, want %s", got, tt.want)
			}
		})
	}
}

func FuzzParseSchedule(f *testing.F) {
	for _, s := range []string{
		"*/10 * * * * *", "CRON_TZ=Europe/Berlin 0 30 2 * * MON-FRI", "TZ=UTC", "@every -5s", "@every 1h", ", * * * *",
		"0 0 0 30 2 *", "1-5/2,7 ? * * sun", "@every 2562047h",
	} {
		f.Add(s)
	}
	from := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := ParseSchedule(spec)
		if err != nil {
			if s != nil {
				t.Fatal("a schedule and an error")
			}
			return
		}
		began := time.Now()
		next := s.Next(from)
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("%q: next took %s", spec, took)
		}
		if !next.IsZero() && !next.After(from) {
			t.Fatalf("%q: next %s is not after %s", spec, next, from)
		}
	})
}
