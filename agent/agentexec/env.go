package agentexec

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// environment gathers what mergeEnv puts together.
func (b *Builder) environment(s *Settings, who identity, inherited []string, r Request) []string {
	in := envInputs{
		inherited: inherited,
		client:    r.Env,
		// The contract has no HOME here; a service manager that sets none would
		// leave shells without one.
		user:     []string{"HOME=" + who.home, "USER=" + who.name, "LOGNAME=" + who.name, "SHELL=" + who.shell},
		manifest: s.Env,
		secrets:  s.Secrets,
		agent:    []string{"GIT_ASKPASS=" + b.o.Executable},
		binDir:   b.o.ScriptBinDir,
		ownDir:   filepath.Dir(b.o.Executable),
		extra: append([]string{
			// The peer of a workspace is behind the network, not at an address;
			// programs only want to see that the variables are there.
			"SSH_CLIENT=0.0.0.0 0 0",
			"SSH_CONNECTION=0.0.0.0 0 0.0.0.0 0",
		}, r.Extra...),
		foldCase: runtime.GOOS == "windows",
	}
	if b.o.AgentURL != "" {
		in.defaults = []string{"CODER_AGENT_URL=" + b.o.AgentURL}
	}
	in.predefined = []string{
		"CODER=true",
		"CODER_WORKSPACE_NAME=" + s.WorkspaceName,
		"CODER_WORKSPACE_AGENT_NAME=" + s.AgentName,
		"CODER_WORKSPACE_OWNER_NAME=" + s.OwnerName,
		"GIT_SSH_COMMAND=" + shellQuote(filepath.ToSlash(b.o.Executable)) + " gitssh --",
		"CS_DISABLE_GETTING_STARTED_OVERRIDE=true",
	}
	token := ""
	if s.Token != nil {
		token = s.Token()
	}
	in.predefined = append(in.predefined, "CODER_AGENT_TOKEN="+token)
	if s.WorkspaceID != "" {
		in.predefined = append(in.predefined, "CODER_WORKSPACE_ID="+s.WorkspaceID)
	}
	if s.ProxyURI != "" {
		in.predefined = append(in.predefined, "VSCODE_PROXY_URI="+s.ProxyURI)
	}
	return mergeEnv(in)
}

// envInputs are the sources of a command's environment, in increasing precedence
// but where the comment says otherwise (contract ssh-and-pty.md section 4.1).
type envInputs struct {
	// Of inherited, defaults, client and user the first to name a variable wins.
	// None of them may set a predefined one.
	inherited, defaults, client, user []string
	predefined                        []string
	// manifest values may refer to inherited variables.
	manifest, secrets map[string]string
	agent             []string
	// binDir is put before the resulting PATH; ownDir at the end of the
	// inherited one.
	binDir, ownDir string
	extra          []string
	// foldCase makes names equal that differ only in case.
	foldCase bool
}

// mergeEnv returns each variable once, as NAME=value. What is not a variable
// (no name, no value, a NUL) is left out: one bad entry of a client must not
// keep its command from starting. Variables of the agent's own machinery (TS_*,
// the priority switches) reach no child, whoever set them.
func mergeEnv(in envInputs) []string {
	e := newEnvList(in.foldCase)
	e.setAll(in.predefined)
	own := ""
	if in.ownDir != "." {
		own = in.ownDir
	}
	for _, kv := range in.inherited {
		if name, value, ok := e.split(kv); ok && e.fold(name) == "PATH" {
			kv = name + "=" + appendPath(value, own)
		}
		if kv != "GOTRACEBACK=none" {
			e.addIfNew(kv)
		}
	}
	for _, list := range [][]string{in.defaults, in.client, in.user} {
		for _, kv := range list {
			e.addIfNew(kv)
		}
	}
	agentEnv := newEnvList(in.foldCase)
	for _, kv := range in.inherited {
		agentEnv.addIfNew(kv)
	}
	for name, value := range in.manifest {
		e.set(name + "=" + os.Expand(value, agentEnv.get))
	}
	for name, value := range in.secrets {
		e.set(name + "=" + value)
	}
	e.setAll(in.agent)
	if in.binDir != "" {
		path := e.get("PATH")
		if path == "" {
			path = agentEnv.get("PATH")
		}
		e.set("PATH=" + prependPath(path, in.binDir))
	}
	e.setAll(in.extra)
	return e.list
}

func appendPath(path, dir string) string {
	switch {
	case dir == "":
		return path
	case path == "":
		return dir
	}
	for _, d := range filepath.SplitList(path) {
		if d == dir {
			return path
		}
	}
	return path + string(os.PathListSeparator) + dir
}

func prependPath(path, dir string) string {
	if path == "" {
		return dir
	}
	return dir + string(os.PathListSeparator) + path
}

// kept out of every child.
func isOwnMachinery(folded string) bool {
	return strings.HasPrefix(folded, "TS_") || folded == priorityVar || folded == oomVar || folded == niceVar
}
