package catalog

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/wire/agentpb"
)

var update = flag.Bool("update", false, "write the golden files")

func TestParseSpec_BadDocuments(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = ParseSpec(filepath.Base(file), text)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("err = %v, want ErrInvalid", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("messages (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSpec_Demo(t *testing.T) {
	file := "../../testdata/workspaces/demo.yaml"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSpec(file, text)
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{Name: "demo", Template: Template{Name: "demo-template", Version: "1.0"}, Agents: []AgentSpec{{
		Name: "main", Directory: "~", Environment: map[string]string{"DEMO_GREETING": "hello"},
		Scripts: []Script{
			{Name: "greet", RunOnStart: true, Text: "echo \"$DEMO_GREETING from the start script\"\necho true >>\"$DEMO_RUNS\"\n"},
			{Name: "prepare", RunOnStart: true, Timeout: time.Minute, StartBlocksLogin: true,
				Text: "date >\"$CODER_SCRIPT_DATA_DIR/started\"\ncat \"$CODER_SCRIPT_DATA_DIR/started\"\necho true >>\"$DEMO_RUNS\"\n"},
			{Name: "broken", RunOnStart: true, Text: "echo \"this script fails on purpose\" >&2\necho false >>\"$DEMO_RUNS\"\nexit 3\n"},
			{Name: "tidy", RunOnStop: true, Timeout: 10 * time.Second, Text: "rm -f \"$CODER_SCRIPT_DATA_DIR/started\"\n"},
			{Name: "every-five-seconds", Cron: "*/5 * * * * *", Text: "echo tick\necho true >>\"$DEMO_RUNS\"\n"},
			{Name: "nightly", Cron: "CRON_TZ=UTC 0 30 3 * * *", Text: "echo \"once a night\"\necho true >>\"$DEMO_RUNS\"\n"},
		},
		Apps: []App{{Slug: "web", DisplayName: "Web", URL: "http://127.0.0.1:8080", Share: agentpb.WorkspaceApp_OWNER,
			Healthcheck: Healthcheck{URL: "http://127.0.0.1:8080/healthz", Interval: 5 * time.Second, Threshold: 3}}},
		Metadata: []Metadata{{Key: "load", DisplayName: "Load average", Script: "cat /proc/loadavg",
			Interval: 10 * time.Second, Timeout: 2 * time.Second}},
		Banners:   []Banner{{Message: "This is the demo.", BackgroundColor: "#004080"}},
		Resources: Resources{Memory: true, Volumes: []string{"/"}},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestParseSpec_SingleAgent(t *testing.T) {
	text, err := os.ReadFile("testdata/short.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSpec("short", text)
	if err != nil {
		t.Fatal(err)
	}
	want := Spec{Name: "small", Owner: "somebody", Agents: []AgentSpec{{Name: "main", Directory: "~", Scripts: []Script{
		{Name: "both", RunOnStart: true, RunOnStop: true, Text: "echo"},
		{Name: "flags", RunOnStart: true, Cron: "@every 5m", Text: "#!/bin/sh\necho two lines\n"},
	}}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestParseSpec_Bounds(t *testing.T) {
	for name, text := range map[string]string{
		"a document of more than 1 MiB": "name: x\nmotd_file: " + strings.Repeat("x", maxDocument),
		"a long text":                   "name: x\nmotd_file: " + strings.Repeat("x", maxLine+1),
		"too many scripts":              "name: x\nscripts:\n" + strings.Repeat("- {name: a, on: start, script: b}\n", maxScripts+1),
		"too many agents":               "name: x\nagents:\n" + strings.Repeat("- {}\n", maxAgents+1),
		"a NUL":                         "name: x\nmotd_file: \"a\\0b\"",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSpec("f", []byte(text))
			if n := len(SpecErrors(err)); n != 1 {
				t.Errorf("%d problems, want 1: %v", n, err)
			}
		})
	}
	many := "name: x\n"
	for range 2 * maxProblems {
		many += "unknown: 1\n"
	}
	_, err := ParseSpec("f", []byte(many))
	if n := len(SpecErrors(err)); n != maxProblems+1 {
		t.Errorf("%d problems listed, want %d", n, maxProblems+1)
	}
}

func TestParseSpec_UnreadableTextHasALine(t *testing.T) {
	for text, want := range map[string]int{
		"\tname: x": 1, "name: x\n\ttemplate: y": 2, "name: x\n# \xff": 2, "name: x\n\n# \x01": 3, "name: \x7f": 1,
	} {
		_, err := ParseSpec("f", []byte(text))
		if list := SpecErrors(err); len(list) != 1 || list[0].Line != want {
			t.Errorf("%q: %v, want a problem in line %d", text, err, want)
		}
	}
}

func TestCheckCron(t *testing.T) {
	for _, good := range []string{
		"0 30 3 * * *", "0 30 3 * *", "*/10 * * * * MON-FRI", "0 0,15,30 * * * ?", "@daily", "@every 1m30s",
		"CRON_TZ=Europe/Berlin 0 30 3 * * *", "TZ=UTC @hourly",
	} {
		if err := checkCron(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "* * * *", "* * * * * * *", "TZ=UTC", "CRON_TZ=UTC ", "CRON_TZ=Nowhere/Land 0 0 0 * *", "@every -5s", "@every 1ms", "@every x",
		"@fortnightly", ", * * * *", "0 , * * * *", "0 0 0 30 2 *", "61 * * * * *", "*/0 * * * * *", "0 0 0 * * \x00",
		strings.Repeat("1,", 200) + "1 * * * *",
	} {
		if err := checkCron(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestFromSchedule(t *testing.T) {
	for in, want := range map[string]string{
		"30 3 * * *":              "0 30 3 * * *",
		" CRON_TZ=UTC  0 9 * * 1": "CRON_TZ=UTC 0 0 9 * * 1",
	} {
		if got, err := fromSchedule(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "0 30 3 * * *", "* * * *", "@daily", "CRON_TZ=UTC", "61 * * * *"} {
		if got, err := fromSchedule(bad); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../../testdata/workspaces/demo.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSpec("f", text)
		if err != nil {
			if len(SpecErrors(err)) == 0 {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		if s.Name == "" || len(s.Agents) == 0 {
			t.Fatalf("an incomplete spec without an error: %+v", s)
		}
	})
}

func FuzzCheckCron(f *testing.F) {
	for _, s := range []string{"0 30 3 * * *", "TZ=UTC", ", * * * *", "@every -5s", "CRON_TZ=UTC 0 0 0 1 1 ?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		began := time.Now()
		_ = checkCron(s)
		_, _ = fromSchedule(s)
		if took := time.Since(began); took > 20*time.Second {
			t.Fatalf("%q took %v", s, took)
		}
	})
}
