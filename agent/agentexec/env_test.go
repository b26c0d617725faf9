package agentexec

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMergeEnv(t *testing.T) {
	tests := []struct {
		name string
		in   envInputs
		want []string
	}{
		{
			name: "the inherited variable beats the same one of a client",
			in:   envInputs{inherited: []string{"LANG=C"}, client: []string{"LANG=de", "EDITOR=vi", "EDITOR=ed"}},
			want: []string{"EDITOR=vi", "LANG=C"},
		},
		{
			name: "nobody below the manifest sets a predefined variable",
			in: envInputs{
				inherited:  []string{"CODER_AGENT_TOKEN=old"},
				client:     []string{"CODER=false"},
				predefined: []string{"CODER=true", "CODER_AGENT_TOKEN=new"},
			},
			want: []string{"CODER=true", "CODER_AGENT_TOKEN=new"},
		},
		{
			name: "the manifest wins over client and predefined and is expanded with the agent's environment only",
			in: envInputs{
				inherited:  []string{"BASE=/b"},
				client:     []string{"EXTRA=/c", "A=client"},
				predefined: []string{"CODER=true"},
				manifest:   map[string]string{"A": "$BASE/x:${EXTRA}", "CODER": "m"},
			},
			want: []string{"A=/b/x:", "BASE=/b", "CODER=m", "EXTRA=/c"},
		},
		{
			name: "secrets are raw and win over the manifest",
			in: envInputs{
				inherited: []string{"HOME=/h"},
				manifest:  map[string]string{"KEY": "m"},
				secrets:   map[string]string{"KEY": "$HOME"},
			},
			want: []string{"HOME=/h", "KEY=$HOME"},
		},
		{
			name: "the agent's variables win over secrets",
			in: envInputs{
				secrets: map[string]string{"GIT_ASKPASS": "s"},
				agent:   []string{"GIT_ASKPASS=/agent"},
			},
			want: []string{"GIT_ASKPASS=/agent"},
		},
		{
			name: "the script directory comes first in the path, the agent's own last",
			in: envInputs{
				inherited: []string{"PATH=/usr/bin"},
				client:    []string{"PATH=/evil"},
				binDir:    "/scripts", ownDir: "/opt/agent",
			},
			want: []string{"PATH=/scripts:/usr/bin:/opt/agent"},
		},
		{
			name: "an own directory that is in the path already is not added",
			in:   envInputs{inherited: []string{"PATH=/opt/agent:/bin"}, ownDir: "/opt/agent"},
			want: []string{"PATH=/opt/agent:/bin"},
		},
		{
			name: "a manifest that replaces the path keeps the script directory",
			in: envInputs{
				inherited: []string{"PATH=/bin"},
				manifest:  map[string]string{"PATH": "/m:$PATH"}, binDir: "/scripts",
			},
			want: []string{"PATH=/scripts:/m:/bin"},
		},
		{
			name: "what is appended last wins over everything",
			in: envInputs{
				manifest: map[string]string{"TERM": "m"},
				agent:    []string{"GIT_ASKPASS=/agent"},
				extra:    []string{"TERM=xterm", "TERM=vt100"},
			},
			want: []string{"GIT_ASKPASS=/agent", "TERM=vt100"},
		},
		{
			name: "the agent's own machinery reaches no child",
			in: envInputs{
				inherited: []string{"TS_DEBUG=1", "CODER_PROC_PRIO_MGMT=1", "CODER_PROC_OOM_SCORE=5", "CODER_PROC_NICE_SCORE=5", "GOTRACEBACK=none"},
				client:    []string{"TS_X=1"},
				manifest:  map[string]string{"TS_Y": "1"},
				extra:     []string{"TS_Z=1"},
			},
			want: nil,
		},
		{
			name: "another GOTRACEBACK stays",
			in:   envInputs{inherited: []string{"GOTRACEBACK=crash"}},
			want: []string{"GOTRACEBACK=crash"},
		},
		{
			name: "what is no variable is left out",
			in:   envInputs{client: []string{"", "=x", "NOVALUE", "A=b\x00c", "EMPTY="}, manifest: map[string]string{"": "x"}},
			want: []string{"EMPTY="},
		},
		{
			name: "names differ by case only where the system says so",
			in:   envInputs{inherited: []string{"Path=/a", "=C:=C:\\x"}, client: []string{"PATH=/b"}, foldCase: true},
			want: []string{"=C:=C:\\x", "Path=/a"},
		},
		{
			name: "a default counts only if the environment has none",
			in:   envInputs{inherited: []string{"A=1"}, defaults: []string{"A=2", "B=2"}, client: []string{"B=3"}},
			want: []string{"A=1", "B=2"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := mergeEnv(tt.in)
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("environment (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzMergeEnv(f *testing.F) {
	f.Add("A=1\nPATH=/bin", "A=2\nX", "A", "$PATH", "TERM=x")
	f.Fuzz(func(t *testing.T, inherited, client, name, value, extra string) {
		in := envInputs{
			inherited:  strings.Split(inherited, "\n"),
			client:     strings.Split(client, "\n"),
			predefined: []string{"CODER=true"},
			manifest:   map[string]string{name: value},
			binDir:     "/scripts",
			extra:      strings.Split(extra, "\n"),
		}
		got := mergeEnv(in)
		seen := make(map[string]bool)
		for _, kv := range got {
			k, _, ok := strings.Cut(kv, "=")
			if !ok || k == "" || seen[k] || strings.ContainsRune(kv, 0) || strings.HasPrefix(k, "TS_") {
				t.Fatalf("bad or doubled entry %q in %q", kv, got)
			}
			seen[k] = true
		}
		if !seen["PATH"] || !seen["CODER"] {
			t.Fatalf("PATH or CODER is missing in %q", got)
		}
	})
}
