// Program mutants takes one mechanism at a time out of a copy of the source and
// runs the test that docs/guarantees.md names for it. A mechanism whose test passes
// without it is not tested. It exits with 1 then.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	only := flag.String("only", "", "take out only mechanisms whose name contains this")
	flag.Parse()
	if err := run(context.Background(), *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) error {
	dir, err := os.MkdirTemp("", "worktally-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := copySource(ctx, dir); err != nil {
		return err
	}
	survived := 0
	for _, m := range Mutants() {
		if !strings.Contains(m.Mechanism, only) {
			continue
		}
		began := time.Now()
		out, died, err := m.try(ctx, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", m.Mechanism, err)
		}
		verdict := "fails, as it must"
		if !died {
			survived++
			verdict = "PASSES WITHOUT IT\n" + out
		}
		fmt.Printf("%5.1fs  %d  %-50s %s %s: %s\n", time.Since(began).Seconds(), m.Promise, m.Mechanism, m.Package, m.Test, verdict)
	}
	if survived > 0 {
		return fmt.Errorf("%d mechanisms are not tested", survived)
	}
	return nil
}

// copySource copies what git knows of the working tree.
func copySource(ctx context.Context, dir string) error {
	list, err := exec.CommandContext(ctx, "git", "ls-files", "-z").Output()
	if err != nil {
		return fmt.Errorf("list the source: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(list), "\x00"), "\x00") {
		b, err := os.ReadFile(name)
		if os.IsNotExist(err) {
			continue // deleted, not committed yet
		}
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o644|mode(name)); err != nil {
			return err
		}
	}
	return nil
}

func mode(name string) fs.FileMode {
	if info, err := os.Stat(name); err == nil {
		return info.Mode().Perm()
	}
	return 0
}

// try takes the mechanism out, runs its test, and puts it back. died says that the
// test failed; a mutant that does not compile is an error.
func (m Mutant) try(ctx context.Context, dir string) (out string, died bool, err error) {
	file := filepath.Join(dir, m.File)
	text, err := os.ReadFile(file)
	if err != nil {
		return "", false, err
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		return "", false, fmt.Errorf("%s has the text %d times", m.File, n)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), m.Old, m.New, 1)), 0o644); err != nil {
		return "", false, err
	}
	defer func() {
		if e := os.WriteFile(file, text, 0o644); err == nil {
			err = e
		}
	}()
	if b, err := m.command(ctx, dir, "vet", "./"+filepath.Dir(m.File), "./"+m.Package).CombinedOutput(); err != nil {
		return "", false, fmt.Errorf("it does not compile: %s", b)
	}
	// A test of chance gets three chances.
	b, err := m.command(ctx, dir, "test", "-count=3", "-timeout=5m", "-run", "^"+m.Test+"$", "./"+m.Package).CombinedOutput()
	if strings.Contains(string(b), "no tests to run") {
		return "", false, fmt.Errorf("%s has no test %s", m.Package, m.Test)
	}
	return string(b), err != nil, nil
}

func (m Mutant) command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = dir
	return c
}
