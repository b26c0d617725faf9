package agentexec

import "testing"

func TestParsePriorityArgs(t *testing.T) {
	p, err := parsePriorityArgs([]string{"--coder-oom=5", "--coder-nice=-3", "--", "a", "--", "b"})
	if err != nil {
		t.Fatal(err)
	}
	if *p.oom != 5 || *p.nice != -3 || len(p.command) != 3 || p.command[0] != "a" {
		t.Errorf("parsed %+v", p)
	}
	for _, bad := range [][]string{nil, {"--"}, {"a"}, {"--coder-oom=x", "--", "a"}, {"--coder-nice=1"}} {
		if _, err := parsePriorityArgs(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestChildPriority(t *testing.T) {
	for agent, want := range map[int]int{-500: 0, 0: 998, 500: 998, 998: 1000, 1000: 1000} {
		if got := childOOM(agent); got != want {
			t.Errorf("childOOM(%d) = %d, want %d", agent, got, want)
		}
	}
	for agent, want := range map[int]int{-5: 0, 0: 5, 14: 19, 19: 19} {
		if got := childNice(agent); got != want {
			t.Errorf("childNice(%d) = %d, want %d", agent, got, want)
		}
	}
}
