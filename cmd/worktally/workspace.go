package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/controlapi"
)

// maxDocument bounds a workspace document as the server does, in bytes.
const maxDocument = 1 << 20

// workspaceCmd is "worktally workspace".
type workspaceCmd struct {
	Apply       workspaceApply       `cmd:"" help:"Create or change a workspace from a YAML file; print the tokens of new agents, once."`
	List        workspaceList        `cmd:"" help:"List your workspaces (administrators: all)."`
	Delete      workspaceDelete      `cmd:"" help:"Delete a workspace; its agents' tokens become invalid."`
	RotateToken workspaceRotateToken `cmd:"" help:"Replace an agent's token and print the new one, once."`
}

// workspaceApply is "worktally workspace apply".
type workspaceApply struct {
	connection
	output
	File string `short:"f" required:"" placeholder:"FILE" help:"The YAML file; - is standard input."`
}

// Run prints a line agent=token for each new agent on standard output.
func (c workspaceApply) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	text, err := c.read(p)
	if err != nil {
		return err
	}
	var out controlapi.Applied
	if err := to.do(http.MethodPost, text, &out, "workspaces"); err != nil {
		return c.explain(err)
	}
	if c.Output == "json" {
		return p.writeJSON(out)
	}
	what := "changed"
	if out.Created {
		what = "created"
	}
	fmt.Fprintf(p.stderr, "Workspace %s/%s is %s.\n", out.Workspace.Owner, out.Workspace.Name, what)
	if len(out.Removed) > 0 {
		fmt.Fprintf(p.stderr, "Agents removed: %s.\n", strings.Join(out.Removed, ", "))
	}
	if len(out.Tokens) > 0 {
		fmt.Fprintln(p.stderr, "Tokens of the new agents, which cannot be shown again:")
	}
	for _, name := range slices.Sorted(maps.Keys(out.Tokens)) {
		if _, err := fmt.Fprintf(p.stdout, "%s=%s\n", name, out.Tokens[name]); err != nil {
			return err
		}
	}
	return nil
}

func (c workspaceApply) read(p *program) ([]byte, error) {
	from := p.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, fmt.Errorf("read the workspace: %w", err)
		}
		defer f.Close()
		from = f
	}
	text, err := io.ReadAll(io.LimitReader(from, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read the workspace: %w", err)
	}
	if len(text) > maxDocument {
		return nil, fmt.Errorf("%s: the document has more than %d bytes", c.name(), maxDocument)
	}
	return text, nil
}

func (c workspaceApply) name() string {
	if c.File == "-" {
		return "standard input"
	}
	return c.File
}

// explain gives the problems of a document as file:line: field: reason.
func (c workspaceApply) explain(err error) error {
	answer, ok := errors.AsType[*apiError](err)
	if !ok || answer.status != http.StatusBadRequest || len(answer.problem.Validations) == 0 {
		return err
	}
	var lines []string
	for _, v := range answer.problem.Validations {
		line := c.name()
		if v.Line > 0 {
			line += fmt.Sprintf(":%d", v.Line)
		}
		if v.Field != "" {
			line += ": " + v.Field
		}
		lines = append(lines, line+": "+v.Detail)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// workspaceList is "worktally workspace list".
type workspaceList struct {
	connection
	output
}

// Run prints a line for each agent.
func (c workspaceList) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	var list []controlapi.Workspace
	if err := to.do(http.MethodGet, nil, &list, "workspaces"); err != nil {
		return err
	}
	if c.Output == "json" {
		return p.writeJSON(list)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WORKSPACE\tTEMPLATE\tAGENT\tSTATUS\tLIFECYCLE\tVERSION")
	for _, ws := range list {
		for _, a := range ws.Agents {
			fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\t%s\t%s\n", ws.Owner, ws.Name, orDash(ws.Template.Name), a.Name, a.Status, a.Lifecycle, orDash(a.Version))
		}
	}
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// workspaceName is the argument that names a workspace.
type workspaceName struct {
	Workspace string `arg:"" placeholder:"[OWNER/]NAME" help:"The workspace; your own if no owner is named."`
}

// find asks the server for the workspace.
func (n workspaceName) find(to *caller) (controlapi.Workspace, error) {
	owner, name, ok := strings.Cut(n.Workspace, "/")
	if !ok {
		owner, name = "me", n.Workspace
	}
	var ws controlapi.Workspace
	if owner == "" || name == "" || strings.Contains(name, "/") {
		return ws, usagef("%q: want NAME or OWNER/NAME", n.Workspace)
	}
	err := to.do(http.MethodGet, nil, &ws, "owners", owner, "workspaces", name)
	return ws, err
}

// workspaceDelete is "worktally workspace delete".
type workspaceDelete struct {
	connection
	workspaceName
}

// Run says what it did on standard error.
func (c workspaceDelete) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	ws, err := c.find(to)
	if err != nil {
		return err
	}
	if err := to.do(http.MethodDelete, nil, nil, "workspaces", ws.ID.String()); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Workspace %s/%s is deleted.\n", ws.Owner, ws.Name)
	return nil
}

// workspaceRotateToken is "worktally workspace rotate-token".
type workspaceRotateToken struct {
	connection
	output
	workspaceName
	Agent string        `placeholder:"NAME" help:"The agent; needed if the workspace has several."`
	Grace time.Duration `default:"1h" help:"How long the old token stays valid, in whole seconds; 0 ends it, and the agent's session, at once."`
}

// Run prints the new token alone on standard output.
func (c workspaceRotateToken) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	ws, err := c.find(to)
	if err != nil {
		return err
	}
	if c.Agent == "" {
		if len(ws.Agents) != 1 {
			return usagef("workspace %s/%s has %d agents: say which with --agent", ws.Owner, ws.Name, len(ws.Agents))
		}
		c.Agent = ws.Agents[0].Name
	}
	if c.Grace < 0 || c.Grace > catalog.MaxGrace || c.Grace%time.Second != 0 {
		return usagef("--grace: %s is no whole number of seconds between 0 and %s", c.Grace, catalog.MaxGrace)
	}
	body, err := json.Marshal(controlapi.Rotate{GraceSeconds: int64(c.Grace / time.Second)})
	if err != nil {
		return err
	}
	var t controlapi.Token
	if err := to.do(http.MethodPost, body, &t, "workspaces", ws.ID.String(), "agents", c.Agent, "token"); err != nil {
		return err
	}
	return p.writeToken(c.output, t)
}
