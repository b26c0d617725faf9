package cli_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worktally/worktally/internal/cli"
)

type common struct {
	URL     string `name:"url" envs:"URL" placeholder:"URL" help:"The server, default $$HERE."`
	Verbose bool   `short:"v" help:"Say more."`
}

type sendCmd struct {
	common
	Count   int      `short:"n" default:"4" help:"How many."`
	Port    uint16   `help:"The port."`
	To      []string `short:"t" required:"" placeholder:"NAME" help:"Who gets it."`
	Relay   bool     `negatable:"" default:"true" help:"Use the relay."`
	Secret  string   `hidden:"" help:"Not shown."`
	Target  string   `arg:"" help:"Where to."`
	Command []string `arg:"" optional:"" passthrough:"" help:"What to run."`
}

type listCmd struct {
	Name string `arg:"" optional:"" default:"me" help:"Whose."`
}

type tree struct {
	Send sendCmd `cmd:"" help:"Send something to everybody who is named, and then go on with the work that was left."`
	Box  struct {
		List     listCmd `cmd:"" help:"List it."`
		EmptyAll listCmd `cmd:"" help:"Empty it."`
	} `cmd:"" help:"The box."`
}

func parseTree(args ...string) (command any, code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	parsed, code := cli.Parse(&tree{}, "prog", "It sends.", args, func(string) string { return "" }, &out, &errs)
	if parsed != nil {
		command = parsed.Command
	}
	return command, code, out.String(), errs.String()
}

func TestParse_Commands(t *testing.T) {
	sent := sendCmd{Count: 4, Relay: true, To: []string{"a"}, Target: "x"}
	with := func(change func(*sendCmd)) sendCmd {
		c := sent
		change(&c)
		return c
	}
	for _, tc := range []struct {
		name, line string
		want       any
	}{
		{"flags before and behind", "send --to=a x --url u", with(func(c *sendCmd) { c.URL = "u" })},
		{"letters in one word", "send -vn7 -t a x", with(func(c *sendCmd) { c.Verbose, c.Count = true, 7 })},
		{"a list grows and is split", "send -ta -t b,c x", with(func(c *sendCmd) { c.To = []string{"a", "b", "c"} })},
		{"the opposite", "send -ta --no-relay x", with(func(c *sendCmd) { c.Relay = false })},
		{"a value for a switch", "send -ta --relay=no --verbose=1 x", with(func(c *sendCmd) { c.Relay, c.Verbose = false, true })},
		{"the rest as it is", "send -ta x run -v --to b", with(func(c *sendCmd) { c.Command = []string{"run", "-v", "--to", "b"} })},
		{"the rest behind dashes", "send -ta x -- -v", with(func(c *sendCmd) { c.Command = []string{"--", "-v"} })},
		{"flags before the rest", "send x -ta run", with(func(c *sendCmd) { c.Command = []string{"run"} })},
		{"a dash is a value", "send -t - x", with(func(c *sendCmd) { c.To = []string{"-"} })},
		{"a negative number", "send --count=-1 -ta x", with(func(c *sendCmd) { c.Count = -1 })},
		{"a command in a command", "box list you", listCmd{"you"}},
		{"the default of an argument", "box empty-all", listCmd{"me"}},
		{"an argument that looks like a flag", "box list -- -v", listCmd{"-v"}},
	} {
		got, code, _, stderr := parseTree(strings.Fields(tc.line)...)
		if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(sendCmd{}, common{})); diff != "" || code != cli.OK {
			t.Errorf("%s: code %d %s (-want +got)\n%s", tc.name, code, stderr, diff)
		}
	}
}

func TestParse_WrongCommands(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"", `expected one of "send", "box"`},
		{"box", `expected one of "list", "empty-all"`},
		{"sent", `unexpected argument sent, did you mean "send"?`},
		{"box list a b", "unexpected argument b"},
		{"send x", "missing flags: --to=NAME,..."},
		{"send -ta", `expected "<target>"`},
		{"send --verbos", `unknown flag --verbos, did you mean "--verbose"?`},
		{"send --secre", "unknown flag --secre"},
		{"send -vq", "unknown flag -q"},
		{"send --count", "--count: a value is missing"},
		{"send --count -v", `--count: a value is missing before "-v"`},
		{"send --count=many", `--count: expected a whole number but got "many"`},
		{"send --count=99999999999999999999", "--count: expected a whole number that is smaller"},
		{"send --port=65536", "--port: expected a whole number of 16 bits"},
		{"send --verbose=perhaps", "--verbose: expected true, 1, yes"},
		{"send --no-relay=true", "--no-relay takes no value"},
		{"--url=u box list", "unknown flag --url"},
	} {
		command, code, stdout, stderr := parseTree(strings.Fields(tc.line)...)
		if command != nil || code != cli.Usage || stdout != "" || !strings.HasPrefix(stderr, "prog: "+tc.want) {
			t.Errorf("%q: code %d, stdout %q, stderr %q", tc.line, code, stdout, stderr)
		}
	}
}

func TestParse_Help(t *testing.T) {
	for line, want := range map[string]string{
		"-h": `Usage: prog <command>

It sends.

Flags:
  -h, --help    Show context-sensitive help.

Commands:
  send             Send something to everybody who is named, and then go on with
                   the work that was left.
  box list         List it.
  box empty-all    Empty it.

Run "prog <command> --help" for more information on a command.
`,
		"send --help --bogus": `Usage: prog send --to=NAME,... <target> [<command> ...] [flags]

Send something to everybody who is named, and then go on with the work that was
left.

Arguments:
  <target>           Where to.
  [<command> ...]    What to run.

Flags:
  -h, --help           Show context-sensitive help.
      --url=URL        The server, default $HERE ($URL)
  -v, --verbose        Say more.
  -n, --count=4        How many.
      --port=UINT16    The port.
  -t, --to=NAME,...    Who gets it.
      --[no-]relay     Use the relay.
`,
	} {
		_, code, stdout, stderr := parseTree(strings.Fields(line)...)
		if diff := cmp.Diff(want, stdout); diff != "" || code != cli.OK || stderr != "" {
			t.Errorf("%q: code %d, %q (-want +got)\n%s", line, code, stderr, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("send -vn7 -t a,b x -- run --help", "1")
	f.Add("box list --help=0 -", "")
	f.Fuzz(func(t *testing.T, line, env string) {
		var errs bytes.Buffer
		parsed, code := cli.Parse(&tree{}, "prog", "", strings.Split(line, " "), func(string) string { return env }, io.Discard, &errs)
		if (parsed != nil || code == cli.OK) == (errs.Len() > 0) {
			t.Errorf("parsed %v, code %d, %s", parsed, code, &errs)
		}
	})
}
