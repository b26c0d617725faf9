package agentexec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// Request is a command to build.
type Request struct {
	// Command is a shell command or a script with a #! line; empty asks for a
	// login shell.
	Command string
	// Env are variables a client asked for; they rank below the manifest's.
	Env []string
	// Extra are variables that win over everything.
	Extra []string
	// Dir is where it starts; empty means the configured directory if it exists,
	// else the home.
	Dir string
}

// Command builds the command; nothing is started. The context kills the process
// when it ends, as with exec.CommandContext.
func (b *Builder) Command(ctx context.Context, r Request) (*exec.Cmd, error) {
	s := b.settings.Load()
	inherited := b.environ()
	who, err := b.identity(inherited)
	if err != nil {
		return nil, err
	}
	argv, err := commandLine(who.shell, r.Command, runtime.GOOS == "windows")
	if err != nil {
		return nil, err
	}
	argv = b.prioritize(argv, inherited)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = b.environment(s, who, inherited, r)
	cmd.Dir = b.directory(s, who.home, inherited, r.Dir)
	return cmd, nil
}

// commandLine returns the program and its arguments that run the command.
func commandLine(shell, command string, windows bool) ([]string, error) {
	trimmed := strings.TrimSpace(command)
	switch {
	case trimmed == "" && windows:
		return []string{shell}, nil
	case trimmed == "":
		return []string{shell, "-l"}, nil
	case strings.HasPrefix(trimmed, "#!"):
		line, _, _ := strings.Cut(trimmed, "\n")
		words, err := splitWords(strings.TrimSpace(line[len("#!"):]))
		if err != nil {
			return nil, fmt.Errorf("read the interpreter line %.100q: %w", line, err)
		}
		if len(words) == 0 {
			return nil, errors.New("read the interpreter line: no interpreter after #!")
		}
		return append(words, "-c", command), nil
	case windows:
		return []string{shell, "/c", command}, nil
	}
	return []string{shell, "-c", command}, nil
}

// The variables that run children with another priority (contract agent-cli.md
// section 1.1).
const (
	priorityVar = "CODER_PROC_PRIO_MGMT"
	oomVar      = "CODER_PROC_OOM_SCORE"
	niceVar     = "CODER_PROC_NICE_SCORE"
)

// prioritize wraps the command into the agent's helper if that is asked for.
func (b *Builder) prioritize(argv, inherited []string) []string {
	if _, asked := lookup(inherited, priorityVar); !asked || runtime.GOOS != "linux" {
		return argv
	}
	wrapped := []string{b.o.Executable, "agent-exec"}
	for _, f := range []struct{ name, flag string }{{oomVar, oomFlag}, {niceVar, niceFlag}} {
		v, ok := lookup(inherited, f.name)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(v)
		if err != nil {
			b.log.Warn("process priority is not a number, the default is used", "variable", f.name, "value", v)
			continue
		}
		wrapped = append(wrapped, f.flag+strconv.Itoa(n))
	}
	return append(append(wrapped, "--"), argv...)
}

// directory returns where a command starts. A home that does not exist must not
// keep somebody out of the workspace, so the agent's own directory is the last
// resort.
func (b *Builder) directory(s *Settings, home string, inherited []string, asked string) string {
	if asked != "" {
		return expandPath(asked, home, inherited)
	}
	for _, dir := range []string{expandPath(s.Directory, home, inherited), home} {
		if info, err := os.Stat(dir); dir != "" && err == nil && info.IsDir() {
			return dir
		}
	}
	return ""
}
