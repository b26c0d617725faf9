package cliflag_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/cliflag"
	"github.com/worktally/worktally/internal/exitcode"
)

type settings struct {
	Wait   time.Duration `name:"wait" envs:"NEW_WAIT,OLD_WAIT" default:"3s" help:"How long to wait."`
	Names  []string      `name:"names" envs:"NAMES" help:"Names."`
	Fast   bool          `name:"fast" envs:"FAST" help:"Be quick."`
	Kind   string        `name:"kind" envs:"KIND" enum:"a,b" default:"a" help:"The kind."`
	Where  string        `name:"where" default:"here" placeholder:"PLACE" help:"Where, not $$HOME."`
	Port   uint16        `name:"port" help:"Which."`
	Secret string        `name:"secret" hidden:"" help:"Nothing to see."`
	Other  int           // no flag
}

func parse(t *testing.T, env map[string]string, args ...string) (s settings, code int, ok bool, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := cliflag.Program{Name: "prog", Description: "It does things."}
	code, ok = p.Parse(&s, args, func(k string) string { return env[k] }, &out, &errs)
	return s, code, ok, out.String(), errs.String()
}

func TestParse_FlagBeforeVariableBeforeDefault(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  map[string]string
		args []string
		want time.Duration
	}{
		{"default", nil, nil, 3 * time.Second},
		{"variable", map[string]string{"NEW_WAIT": "1m"}, nil, time.Minute},
		{"second variable", map[string]string{"OLD_WAIT": "2m"}, nil, 2 * time.Minute},
		{"first of two variables", map[string]string{"OLD_WAIT": "2m", "NEW_WAIT": "1m"}, nil, time.Minute},
		{"an empty variable is none", map[string]string{"NEW_WAIT": ""}, nil, 3 * time.Second},
		{"flag", map[string]string{"NEW_WAIT": "1m"}, []string{"--wait=9s"}, 9 * time.Second},
		{"flag and value apart", nil, []string{"--wait", "9s"}, 9 * time.Second},
		{"the last flag", nil, []string{"--wait=8s", "--wait=9s"}, 9 * time.Second},
	} {
		s, code, ok, _, stderr := parse(t, tc.env, tc.args...)
		if !ok || code != exitcode.OK || s.Wait != tc.want {
			t.Errorf("%s: %s, code %d, %s", tc.name, s.Wait, code, stderr)
		}
	}
}

func TestParse_Types(t *testing.T) {
	fromEnv, _, _, _, _ := parse(t, map[string]string{"NAMES": "a,b", "FAST": "true", "KIND": "b"})
	if len(fromEnv.Names) != 2 || !fromEnv.Fast || fromEnv.Kind != "b" || fromEnv.Where != "here" {
		t.Errorf("from variables: %+v", fromEnv)
	}
	s, _, _, _, stderr := parse(t, map[string]string{"NAMES": "x", "FAST": "true"}, "--names=a", "--names", "b,c", "--fast=false", "--port=65535", "--secret=s", "--where=")
	if strings.Join(s.Names, " ") != "a b c" || s.Fast || s.Port != 65535 || s.Secret != "s" || s.Where != "" {
		t.Errorf("from flags: %+v, %s", s, stderr)
	}
	if s, _, _, _, _ := parse(t, nil, "--fast"); !s.Fast {
		t.Error("a flag without a value is not true")
	}
}

func TestParse_Help(t *testing.T) {
	for _, flag := range []string{"--help", "-h"} {
		_, code, ok, stdout, stderr := parse(t, nil, flag)
		if ok || code != exitcode.OK || stderr != "" {
			t.Errorf("code %d, stderr %q", code, stderr)
		}
		for _, want := range []string{"It does things.", "--wait", "(default 3s, $NEW_WAIT, $OLD_WAIT)", "--where PLACE", "Where, not $HOME (default here)", "Which."} {
			if !strings.Contains(stdout, want) {
				t.Errorf("help does not have %q:\n%s", want, stdout)
			}
		}
		if strings.Contains(stdout, "secret") {
			t.Errorf("help has a hidden flag:\n%s", stdout)
		}
	}
}

func TestParse_WrongUsage(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		env        map[string]string
		args       []string
	}{
		{"unknown flag", "prog: unknown flag --bogus\n", nil, []string{"--bogus"}},
		{"unknown short flag", "prog: unknown shorthand", nil, []string{"-x"}},
		{"stray word", "prog: unexpected argument word\n", nil, []string{"--fast", "word"}},
		{"bad duration of a flag", `prog: --wait (NEW_WAIT, OLD_WAIT): "soon" is not a duration`, nil, []string{"--wait=soon"}},
		{"bad duration of a variable", `prog: --wait (NEW_WAIT, OLD_WAIT): "soon" is not a duration`, map[string]string{"OLD_WAIT": "soon"}, nil},
		{"bad bool", `prog: --fast (FAST): "perhaps" is none of`, map[string]string{"FAST": "perhaps"}, nil},
		{"bad number", `prog: --port: "65536" is not a number`, nil, []string{"--port=65536"}},
		{"bad choice", `prog: --kind (KIND) must be one of ["a" "b"] but got "c"`, map[string]string{"KIND": "c"}, nil},
		{"a value is missing", "prog: flag needs an argument: --where", nil, []string{"--where"}},
	} {
		_, code, ok, stdout, stderr := parse(t, tc.env, tc.args...)
		if ok || code != exitcode.Usage || stdout != "" || !strings.HasPrefix(stderr, tc.want) || !strings.Contains(stderr, `Run "prog --help"`) {
			t.Errorf("%s: code %d, stdout %q, stderr %q", tc.name, code, stdout, stderr)
		}
	}
}
