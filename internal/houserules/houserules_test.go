// Package houserules holds the rules of the house as tests: who may import whom,
// that every package says what it is for, and that licences are permissive.
package houserules

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/worktally/worktally/"

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// layers reads the table of docs/architecture.md: lines "| N | `package`, ... |".
func layers(t *testing.T) map[string]int {
	t.Helper()
	f, err := os.Open(filepath.Join(root(t), "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	row := regexp.MustCompile("^\\| (\\d) \\| ([^|]+) \\|")
	name := regexp.MustCompile("`([^`]+)`")
	m := make(map[string]int)
	for s := bufio.NewScanner(f); s.Scan(); {
		cells := row.FindStringSubmatch(s.Text())
		if cells == nil {
			continue
		}
		layer, err := strconv.Atoi(cells[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range name.FindAllStringSubmatch(cells[2], -1) {
			m[n[1]] = layer
		}
	}
	if len(m) < 10 {
		t.Fatalf("docs/architecture.md names %d packages", len(m))
	}
	return m
}

// layerOf finds the layer of a package: its own row, or one that ends in /*.
func layerOf(m map[string]int, pkg string) (int, bool) {
	if l, ok := m[pkg]; ok {
		return l, true
	}
	for dir := pkg; dir != "."; dir = filepath.Dir(dir) {
		if l, ok := m[dir+"/*"]; ok {
			return l, true
		}
	}
	return 0, false
}

// eachFile calls fn for every Go file of the module that is ours.
func eachFile(t *testing.T, fn func(pkg, path string, file *ast.File)) {
	t.Helper()
	base := root(t)
	err := filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(base, path)
		if d.IsDir() {
			if n := d.Name(); rel != "." && (strings.HasPrefix(n, ".") || n == "testdata" || n == "bench" || n == "deploy" || n == "tmpdeps" || n == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		fn(filepath.Dir(rel), rel, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLayers: a package imports only lower layers, and agent and server never
// meet. What stands beside the house (e2e) may import what it likes; tests may
// use anything of their own side.
func TestLayers(t *testing.T) {
	m := layers(t)
	seen := make(map[string]bool)
	eachFile(t, func(pkg, path string, file *ast.File) {
		if strings.HasPrefix(pkg, "e2e") {
			return
		}
		from, ok := layerOf(m, pkg)
		if !ok {
			if !seen[pkg] {
				t.Errorf("package %s is not in the table of docs/architecture.md", pkg)
			}
			seen[pkg] = true
			return
		}
		test := strings.HasSuffix(path, "_test.go")
		for _, imp := range file.Imports {
			target, _ := strconv.Unquote(imp.Path.Value)
			target, ours := strings.CutPrefix(target, module)
			if !ours || target == pkg {
				continue
			}
			to, ok := layerOf(m, target)
			if !ok {
				t.Errorf("%s imports %s, which is not in the table", path, target)
				continue
			}
			// wire and what is below it are one room.
			inner := from == to && strings.HasPrefix(pkg, "wire") && strings.HasPrefix(target, "wire")
			if !test && to >= from && !inner && from > 0 {
				t.Errorf("%s (layer %d) imports %s (layer %d)", path, from, target, to)
			}
			if from == 0 && to > 0 {
				t.Errorf("%s (layer 0) imports %s", path, target)
			}
			if side(pkg) != "" && side(target) != "" && side(pkg) != side(target) {
				t.Errorf("%s: agent and server import each other: %s", path, target)
			}
			if strings.HasPrefix(target, "e2e") {
				t.Errorf("%s imports %s", path, target)
			}
		}
	})
}

func side(pkg string) string {
	for _, s := range []string{"agent", "server"} {
		if pkg == s || strings.HasPrefix(pkg, s+"/") {
			return s
		}
	}
	return ""
}

// TestTailscale: only the tailnet packages know the library.
func TestTailscale(t *testing.T) {
	eachFile(t, func(pkg, path string, file *ast.File) {
		for _, imp := range file.Imports {
			if strings.HasPrefix(strings.Trim(imp.Path.Value, `"`), "tailscale.com") && !strings.HasPrefix(pkg, "tailnet") {
				t.Errorf("%s imports %s", path, imp.Path.Value)
			}
		}
	})
}

// TestPackageDocs: every package says what it is for.
func TestPackageDocs(t *testing.T) {
	documented := make(map[string]bool)
	eachFile(t, func(pkg, path string, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") && pkg != "internal/houserules" {
			return
		}
		documented[pkg] = documented[pkg] || file.Doc != nil || ast.IsGenerated(file)
	})
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no comment", pkg)
		}
	}
}

// TestNoInit: nothing happens because a package is linked.
func TestNoInit(t *testing.T) {
	eachFile(t, func(_, path string, file *ast.File) {
		if ast.IsGenerated(file) {
			return
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", path)
			}
		}
	})
}

// TestNoPackageVariables: state belongs to values. Sentinel errors, compiled
// patterns, embedded files, interface checks and flags of tests are no state.
func TestNoPackageVariables(t *testing.T) {
	eachFile(t, func(_, path string, file *ast.File) {
		if ast.IsGenerated(file) || strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				if !harmless(g, v) {
					t.Errorf("%s: package variable %s", path, v.Names[0].Name)
				}
			}
		}
	})
}

func harmless(g *ast.GenDecl, v *ast.ValueSpec) bool {
	if v.Names[0].Name == "_" {
		return true
	}
	if g.Doc != nil && strings.Contains(g.Doc.Text(), "go:embed") || hasEmbed(g) {
		return true
	}
	for _, value := range v.Values {
		call, ok := value.(*ast.CallExpr)
		if !ok {
			return false
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		x, _ := sel.X.(*ast.Ident)
		if x == nil {
			return false
		}
		switch name := x.Name + "." + sel.Sel.Name; name {
		case "errors.New", "fmt.Errorf", "regexp.MustCompile", "drpcerr.WithCode":
		default:
			return false
		}
	}
	return len(v.Values) > 0
}

func hasEmbed(g *ast.GenDecl) bool {
	if g.Doc == nil {
		return false
	}
	for _, c := range g.Doc.List {
		if strings.HasPrefix(c.Text, "//go:embed") {
			return true
		}
	}
	return false
}
