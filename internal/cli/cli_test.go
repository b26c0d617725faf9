package cli_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/cli"
	"github.com/worktally/worktally/internal/exitcode"
)

type grammar struct {
	Wait  time.Duration `name:"wait" envs:"NEW_WAIT,OLD_WAIT" default:"3s" help:"How long to wait."`
	Names []string      `name:"names" envs:"NAMES" sep:"," help:"Names."`
	Fast  bool          `name:"fast" envs:"FAST" help:"Be quick."`
	Kind  string        `name:"kind" envs:"KIND" enum:"a,b" default:"a" help:"The kind."`
	Where string        `name:"where" default:"here" placeholder:"PLACE" help:"Where."`
	Plain string        `name:"plain" default:"x" help:"Without a variable."`
}

func parse(t *testing.T, env map[string]string, args ...string) (g grammar, code int, parsed bool, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	c, code := cli.Parse(&g, "prog", "It does things.", args, func(k string) string { return env[k] }, &out, &errs)
	return g, code, c != nil, out.String(), errs.String()
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
	} {
		g, code, parsed, _, stderr := parse(t, tc.env, tc.args...)
		if !parsed || code != exitcode.OK || g.Wait != tc.want {
			t.Errorf("%s: %s, code %d, %s", tc.name, g.Wait, code, stderr)
		}
	}
	g, _, _, _, _ := parse(t, map[string]string{"NAMES": "a,b", "FAST": "true", "KIND": "b"})
	if len(g.Names) != 2 || !g.Fast || g.Kind != "b" {
		t.Errorf("from variables: %+v", g)
	}
}

func TestParse_HelpNamesFlagsAndVariables(t *testing.T) {
	_, code, parsed, stdout, stderr := parse(t, nil, "--help")
	if parsed || code != exitcode.OK || stderr != "" {
		t.Errorf("code %d, stderr %q", code, stderr)
	}
	for _, want := range []string{"It does things.", "--wait", "($NEW_WAIT, $OLD_WAIT)", "--where=PLACE", "Where (default here)", "--plain", "Without a variable."} {
		if !strings.Contains(stdout, want) {
			t.Errorf("help does not have %q:\n%s", want, stdout)
		}
	}
}

func TestParse_WrongUsage(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		env        map[string]string
		args       []string
	}{
		{"unknown flag", "prog: unknown flag --bogus", nil, []string{"--bogus"}},
		{"stray word", "prog: unexpected argument word", nil, []string{"word"}},
		{"bad value of a flag", "prog: --wait (NEW_WAIT, OLD_WAIT): ", nil, []string{"--wait=soon"}},
		{"bad value of a variable", "prog: --wait (NEW_WAIT, OLD_WAIT): ", map[string]string{"OLD_WAIT": "soon"}, nil},
		{"bad choice", `prog: --kind (KIND) must be one of "a","b" but got "c"`, map[string]string{"KIND": "c"}, nil},
		{"a flag without a variable", "prog: --plain", nil, []string{"--plain"}},
	} {
		_, code, parsed, stdout, stderr := parse(t, tc.env, tc.args...)
		if parsed || code != exitcode.Usage || stdout != "" || !strings.HasPrefix(stderr, tc.want) || !strings.Contains(stderr, `Run "prog --help"`) {
			t.Errorf("%s: code %d, stdout %q, stderr %q", tc.name, code, stdout, stderr)
		}
	}
}

func TestParse_MistakeInTheGrammarIsOurs(t *testing.T) {
	defer func() {
		if r, _ := recover().(string); !strings.HasPrefix(r, "BUG: ") {
			t.Errorf("panic %v", r)
		}
	}()
	var g struct {
		A string `name:"same"`
		B string `name:"same"`
	}
	var out bytes.Buffer
	cli.Parse(&g, "prog", "", nil, func(string) string { return "" }, &out, &out)
}
