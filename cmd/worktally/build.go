package main

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/worktally/worktally/server/catalog"
)

// buildCmd is "worktally build".
type buildCmd struct {
	Start  buildStart  `cmd:"" help:"Say that a build of a workspace began, and print its id."`
	Finish buildFinish `cmd:"" help:"Say how a build ended."`
}

// buildStart is "worktally build start".
type buildStart struct {
	connection
	output
	workspaceName
	Transition      string            `enum:"start,stop,delete" default:"start" help:"What the build does to the workspace: start, stop or delete."`
	TemplateName    string            `name:"template-name" placeholder:"NAME" help:"The template, default the workspace's."`
	TemplateVersion string            `name:"template-version" placeholder:"NAME" help:"Its version, default the workspace's."`
	Parameter       map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"A parameter and its value, repeatable, not for secrets; only values that the template version marks safe are kept."`
	Provisioner     string            `default:"terraform" help:"Whose job the build is; empty if it is nobody's."`
	ID              string            `name:"id" placeholder:"UUID" help:"The build's id, default a new one. The same one again changes nothing."`
	Number          int64             `placeholder:"N" help:"The build's number among those of the workspace, default the next one."`
}

// Run prints the id alone on standard output.
func (c buildStart) Run(p *program) error {
	id, err := buildID(c.ID)
	if err != nil {
		return err
	}
	to, err := c.open(p)
	if err != nil {
		return err
	}
	ws, err := c.find(to)
	if err != nil {
		return err
	}
	out, err := putBuild(to, catalog.Build{
		ID: id, WorkspaceID: ws.ID, Number: c.Number, Transition: catalog.Transition(c.Transition),
		Template:    catalog.Template{Name: c.TemplateName, Version: c.TemplateVersion},
		Provisioner: c.Provisioner, Parameters: c.Parameter, Status: catalog.StatusRunning,
	})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return p.writeJSON(out)
	}
	fmt.Fprintf(p.stderr, "Build %d of %s/%s is %s.\n", out.Number, ws.Owner, ws.Name, out.Status)
	_, err = fmt.Fprintln(p.stdout, out.ID)
	return err
}

// buildID returns the id in a text, or a new one.
func buildID(text string) (uuid.UUID, error) {
	if text == "" {
		return uuid.New(), nil
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return id, usagef("%q: want the UUID of a build", text)
	}
	return id, nil
}

func putBuild(to *caller, b catalog.Build) (out catalog.Build, err error) {
	body, err := json.Marshal(b)
	if err != nil {
		return out, err
	}
	return out, to.do(http.MethodPut, body, &out, "builds", b.ID.String())
}

// buildFinish is "worktally build finish".
type buildFinish struct {
	connection
	output
	ID     string `arg:"" help:"The id that build start printed."`
	Status string `required:"" enum:"succeeded,failed,canceled" help:"How the build ended: succeeded, failed or canceled."`
}

// Run says what it did on standard error.
func (c buildFinish) Run(p *program) error {
	id, err := buildID(c.ID)
	if err != nil {
		return err
	}
	to, err := c.open(p)
	if err != nil {
		return err
	}
	out, err := putBuild(to, catalog.Build{ID: id, Status: catalog.Status(c.Status)})
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return p.writeJSON(out)
	}
	if out.Status != catalog.Status(c.Status) {
		fmt.Fprintf(p.stderr, "Build %d ended before: it is %s.\n", out.Number, out.Status)
		return nil
	}
	fmt.Fprintf(p.stderr, "Build %d is %s.\n", out.Number, out.Status)
	return nil
}
