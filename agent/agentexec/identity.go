package agentexec

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
)

// identity is who runs the commands.
type identity struct{ name, home, shell string }

// identity asks the options, then the environment and the user database. A user
// without an entry (a container that runs with a bare number) still gets a
// shell.
func (b *Builder) identity(inherited []string) (identity, error) {
	u, err := user.Current()
	if err != nil {
		u = &user.User{}
	}
	id := identity{name: b.o.User, home: b.o.Home, shell: b.o.Shell}
	if id.name == "" {
		id.name = u.Username
	}
	if id.name == "" {
		id.name, _ = lookup(inherited, "USER")
	}
	entry := b.passwdEntry(id.name)
	if id.home == "" {
		id.home = homeOf(inherited, entry.home, u.HomeDir)
	}
	if id.home == "" {
		return identity{}, errors.New("find the home directory: neither HOME nor the user database names one")
	}
	if id.shell == "" {
		id.shell = shellOf(inherited, entry.shell)
	}
	return id, nil
}

func homeOf(inherited []string, candidates ...string) string {
	name := "HOME"
	if runtime.GOOS == "windows" {
		name = "USERPROFILE"
	}
	if home, _ := lookup(inherited, name); home != "" {
		return home
	}
	for _, c := range candidates {
		if c != "" {
			return c
		}
	}
	return ""
}

func shellOf(inherited []string, fromPasswd string) string {
	if runtime.GOOS == "windows" {
		for _, name := range []string{"pwsh.exe", "powershell.exe"} {
			if path, err := exec.LookPath(name); err == nil {
				return path
			}
		}
		return "cmd.exe"
	}
	if fromPasswd != "" {
		return fromPasswd
	}
	if shell, _ := lookup(inherited, "SHELL"); shell != "" {
		return shell
	}
	return "/bin/sh"
}

type passwdEntry struct{ home, shell string }

func (b *Builder) passwdEntry(name string) passwdEntry {
	f, err := os.Open(b.o.PasswdFile)
	if err != nil {
		return passwdEntry{} // there is none on some systems
	}
	defer f.Close()
	return findPasswd(f, name)
}

// findPasswd reads name:password:uid:gid:comment:home:shell lines.
func findPasswd(r io.Reader, name string) passwdEntry {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) >= 7 && f[0] == name && name != "" {
			return passwdEntry{home: f[5], shell: strings.TrimSpace(f[6])}
		}
	}
	return passwdEntry{}
}

// Home returns the home directory of the user.
func (b *Builder) Home() (string, error) {
	id, err := b.identity(b.environ())
	return id.home, err
}

// ExpandPath replaces a leading ~ and $NAME or ${NAME} of the agent's
// environment, and takes a relative path as relative to the home. Empty stays
// empty.
func (b *Builder) ExpandPath(path string) string {
	inherited := b.environ()
	id, err := b.identity(inherited)
	if err != nil {
		return path
	}
	return expandPath(path, id.home, inherited)
}

func expandPath(path, home string, inherited []string) string {
	if path == "" {
		return ""
	}
	if path == "~" || strings.HasPrefix(path, "~/") || strings.HasPrefix(path, `~\`) {
		path = home + path[1:]
	}
	path = os.Expand(path, func(name string) string {
		if name == "HOME" {
			return home
		}
		v, _ := lookup(inherited, name)
		return v
	})
	if path == "" {
		return ""
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(home, path)
	}
	return filepath.Clean(path)
}
