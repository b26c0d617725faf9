package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/worktally/worktally/server/controlapi"
)

// importTimeout bounds an import.
const importTimeout = 30 * time.Minute

// importCmd is "worktally import".
type importCmd struct {
	connection
	output
	File string `arg:"" help:"File with one JSON object a line, or one array of them; - is standard input."`
}

// Run prints what was stored. Items that were not are an error.
func (c importCmd) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	to.client.Timeout = importTimeout
	var from io.Reader = p.stdin
	name := "standard input"
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return fmt.Errorf("read the import: %w", err)
		}
		defer f.Close()
		from, name = f, c.File
	}
	var out controlapi.ImportResult
	if err := to.send(http.MethodPost, from, &out, "import"); err != nil {
		return err
	}
	if c.Output == "json" {
		if err := p.writeJSON(out); err != nil {
			return err
		}
	} else {
		c.report(p, name, out)
	}
	if out.Failed > 0 {
		return fmt.Errorf("%d items were not stored", out.Failed)
	}
	return nil
}

func (c importCmd) report(p *program, name string, out controlapi.ImportResult) {
	for _, e := range out.Errors {
		fmt.Fprintf(p.stderr, "%s:%d: %s\n", name, e.Line, e.Detail)
	}
	if more := out.Failed - len(out.Errors); more > 0 {
		fmt.Fprintf(p.stderr, "%s: and %d more\n", name, more)
	}
	var stored []string
	for _, kind := range slices.Sorted(maps.Keys(out.Stored)) {
		stored = append(stored, fmt.Sprintf("%s %d", kind, out.Stored[kind]))
	}
	if stored == nil {
		stored = []string{"nothing"}
	}
	fmt.Fprintf(p.stdout, "stored: %s\n", strings.Join(stored, ", "))
}
