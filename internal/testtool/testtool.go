// Package testtool finds the real programs that tests run against (a missing one
// skips the test on a developer's machine and fails it in CI), and keeps what
// programs write.
package testtool

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// Find returns the path of a program, trying the given names or paths in order.
func Find(t testing.TB, names ...string) string {
	t.Helper()
	for _, n := range names {
		if path, err := exec.LookPath(n); err == nil {
			return path
		}
	}
	Missing(t, "none of %q is installed (see make deps)", names)
	return ""
}

// Missing skips the test, or fails it in CI, because something is not there.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// Output runs a program with the given standard input and returns what it wrote
// to both outputs.
func Output(t testing.TB, stdin []byte, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ParseWithPython reads an exposition with the parser of Debian's
// python3-prometheus-client and returns its complaint, "" if it has none.
func ParseWithPython(t testing.TB, page []byte, openMetrics bool) string {
	t.Helper()
	python := Find(t, "/usr/bin/python3")
	if out, err := Output(t, nil, python, "-c", "import prometheus_client"); err != nil {
		Missing(t, "python3-prometheus-client is not installed: %s", out)
	}
	module := "prometheus_client.parser"
	if openMetrics {
		module = "prometheus_client.openmetrics.parser"
	}
	script := "import sys\nfrom " + module + " import text_string_to_metric_families as parse\n" +
		"n = sum(len(f.samples) for f in parse(sys.stdin.read()))\nassert n > 0, 'no samples'\n"
	out, err := Output(t, page, python, "-c", script)
	if err != nil {
		return out
	}
	return ""
}
