package houserules

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestAgent_StaysSmall: a package that calls methods by name makes the linker keep
// every method of every type, which costs the agent a quarter of its size.
func TestAgent_StaysSmall(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/agent")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	if !slices.Contains(linked, "github.com/spf13/pflag") {
		t.Fatalf("the list is not that of the agent: %d packages", len(linked))
	}
	for _, p := range []string{"github.com/alecthomas/kong", "golang.org/x/net/trace"} {
		if slices.Contains(linked, p) {
			t.Errorf("cmd/agent links %s", p)
		}
	}
}
