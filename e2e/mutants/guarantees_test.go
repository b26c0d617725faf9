package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// TestGuarantees_EachMechanismIsTakenOut compares the tables of docs/guarantees.md
// with the mutants, both ways.
func TestGuarantees_EachMechanismIsTakenOut(t *testing.T) {
	var want, got []string
	for _, m := range Mutants() {
		want = append(want, fmt.Sprintf("%d: | %s | `%s` `%s` |", m.Promise, m.Mechanism, m.Package, m.Test))
	}
	promise := ""
	heading := regexp.MustCompile(`^## (\d)\. `)
	for line := range strings.Lines(read(t, "docs/guarantees.md")) {
		if m := heading.FindStringSubmatch(line); m != nil {
			promise = m[1]
		}
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| Mechanism ") {
			got = append(got, promise+": "+strings.TrimSpace(line))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/guarantees.md (-mutants +tables):\n%s", diff)
	}
}

// TestGuarantees_MutantsAreOfThisCode: what is to be taken out is there.
func TestGuarantees_MutantsAreOfThisCode(t *testing.T) {
	for _, m := range Mutants() {
		if n := strings.Count(read(t, m.File), m.Old); n != 1 {
			t.Errorf("%s: %s has the text %d times", m.Mechanism, m.File, n)
		}
	}
}

// TestGuarantees_NamesExist: every test and scenario that the document names.
func TestGuarantees_NamesExist(t *testing.T) {
	doc := read(t, "docs/guarantees.md")
	tests := regexp.MustCompile("`([a-z0-9/]+)`\\s`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(doc, -1)
	if len(tests) < len(Mutants()) {
		t.Errorf("%d tests", len(tests))
	}
	for _, m := range tests {
		if !strings.Contains(all(t, m[1]+"/*_test.go"), "func "+m[2]+"(t *testing.T)") {
			t.Errorf("%s has no %s", m[1], m[2])
		}
	}
	scenarios := all(t, "e2e/faults/*.go")
	for _, m := range regexp.MustCompile("`([a-z]+(?:-[a-z]+)*)`").FindAllStringSubmatch(doc, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err == nil {
			continue // a package
		}
		if !strings.Contains(scenarios, `name: "`+m[1]+`"`) {
			t.Errorf("there is no scenario %s", m[1])
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func all(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range files {
		b.WriteString(read(t, strings.TrimPrefix(f, root+"/")))
	}
	return b.String()
}
