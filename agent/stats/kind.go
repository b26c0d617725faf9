package stats

import (
	"bytes"
	"strings"

	"github.com/worktally/worktally/internal/appname"
)

// Kind is what a session counts as.
type Kind struct {
	// App is the normalized application name (appname.Normalize); "ssh" when
	// nothing says otherwise.
	App    string
	Family appname.Family
}

func kindOf(app string) Kind { return Kind{App: app, Family: appname.FamilyOf(app)} }

// SessionFacts is what the SSH server knows when a session starts.
type SessionFacts struct {
	// Marker is the value of CODER_SSH_SESSION_TYPE, "" if the client sent none.
	Marker string
	// Command is the exec command, "" for a shell or a subsystem.
	Command string
	// Subsystem is the subsystem's name, "" for a shell or a command.
	Subsystem string
	PTY       bool
}

// ForwardFacts is what is known about a forwarded channel: the process that
// listens on its target, empty if it could not be found.
type ForwardFacts struct {
	// CommandLine is the process's arguments joined by blanks.
	CommandLine string
	// Executable is the path of its program, "" if unreadable.
	Executable string
}

// stdinLimit is how much of a bare shell's input is searched for an editor's
// bootstrap script.
const stdinLimit = 64 << 10

// serverDirs are the directories in the home of the user from which the remote
// parts of VS Code and its forks run. Longer names come before their prefixes.
func serverDirs() [7]struct{ dir, app string } {
	return [...]struct{ dir, app string }{
		{".vscode-server-insiders", "vscode_insiders"},
		{".vscode-server", "vscode"},
		{".cursor-server", "cursor"},
		{".windsurf-server", "windsurf"},
		{".vscodium-server", "vscodium"},
		{".positron-server", "positron"},
		{".vscode-remote", "vscode"},
	}
}

// longestServerDir is how many bytes two chunks of input must overlap in the
// search so that no directory name is cut.
const longestServerDir = len(".vscode-server-insiders")

// appOfText returns the editor whose server directory occurs in the text.
func appOfText(text []byte) (app string, ok bool) {
	for _, d := range serverDirs() {
		if bytes.Contains(text, []byte(d.dir)) {
			return d.app, true
		}
	}
	return "", false
}

// jetBrainsMarkers occur in the command line of a JetBrains backend, in any case.
func jetBrainsMarkers() [3]string {
	return [...]string{"idea.vendor.name=jetbrains", "com.jetbrains.toolbox", "remote-dev-server"}
}

// kindOfProcess decides what a forward to the process counts as.
func kindOfProcess(f ForwardFacts) (k Kind, ok bool) {
	line := strings.ToLower(f.CommandLine)
	for _, m := range jetBrainsMarkers() {
		if strings.Contains(line, m) {
			return kindOf("jetbrains"), true
		}
	}
	if app, found := appOfText([]byte(f.Executable)); found {
		return kindOf(app), true
	}
	if app, found := appOfText([]byte(f.CommandLine)); found {
		return kindOf(app), true
	}
	return Kind{}, false
}

// kindOfSession decides what a session counts as when it starts. firm says that
// the client named an application, so that only a fork of the same family may
// still take its place.
func kindOfSession(f SessionFacts) (k Kind, firm bool) {
	k = kindOf("ssh")
	if strings.TrimSpace(f.Marker) != "" {
		k = kindOf(appname.Normalize(f.Marker))
	}
	firm = k.App != "ssh"
	if app, ok := appOfText([]byte(f.Command)); ok {
		k = refine(k, firm, kindOf(app))
	}
	return k, firm
}

// KindOf returns what a session of these facts would count as, for one that is
// refused before it counts.
func KindOf(f SessionFacts) Kind {
	k, _ := kindOfSession(f)
	return k
}

// refine returns what a session of kind k counts as after behaviour of kind seen
// was observed. Forks of VS Code announce themselves as "vscode", so the name of
// the directory is the better witness within a family.
func refine(k Kind, firm bool, seen Kind) Kind {
	if firm && k.Family != seen.Family {
		return k
	}
	if firm && k.App != "vscode" {
		return k
	}
	return seen
}

// TrackedByChannel says that sessions of this kind are neither counted nor
// reported: a JetBrains client opens hundreds of them beside the one forwarded
// channel that counts (contract ssh-and-pty.md section 5).
func (k Kind) TrackedByChannel() bool { return k.Family == appname.JetBrains }

// MagicType is the value of the label magic_type (contract metrics.md 11.1).
func (k Kind) MagicType() string {
	switch k.Family {
	case appname.SSH:
		return "ssh"
	case appname.VSCode:
		return "vscode"
	case appname.JetBrains:
		return "jetbrains"
	}
	return "unknown"
}
