package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/worktally/worktally/server/controlapi"
)

// userCmd is "worktally user".
type userCmd struct {
	Create      userCreate      `cmd:"" help:"Create a user and print the token, once."`
	List        userList        `cmd:"" help:"List the users."`
	Delete      userDelete      `cmd:"" help:"Delete a user who owns no workspace."`
	RotateToken userRotateToken `cmd:"" help:"Replace a user's token and print the new one, once."`
}

// output is the flag for the form of what is printed.
type output struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"Form of the output: text or json."`
}

// userCreate is "worktally user create".
type userCreate struct {
	connection
	output
	Name  string `arg:"" help:"The username: letters, digits, - and _."`
	Email string `placeholder:"ADDRESS" help:"The e-mail address, a label of the user's builds."`
	Admin bool   `help:"Make the user an administrator."`
}

// Run prints the token alone on standard output.
func (c userCreate) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	body, err := json.Marshal(controlapi.NewUser{Username: c.Name, Email: c.Email, Admin: c.Admin})
	if err != nil {
		return err
	}
	var u controlapi.User
	if err := to.do(http.MethodPost, body, &u, "users"); err != nil {
		return err
	}
	if c.Output == "json" {
		return p.writeJSON(u)
	}
	fmt.Fprintf(p.stderr, "User %s is created. The token cannot be shown again:\n", u.Username)
	_, err = fmt.Fprintln(p.stdout, u.Token)
	return err
}

// userList is "worktally user list".
type userList struct {
	connection
	output
}

// Run prints a line for each user.
func (c userList) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	var users []controlapi.User
	if err := to.do(http.MethodGet, nil, &users, "users"); err != nil {
		return err
	}
	if c.Output == "json" {
		return p.writeJSON(users)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "USERNAME\tADMIN\tCREATED")
	for _, u := range users {
		fmt.Fprintf(w, "%s\t%t\t%s\n", u.Username, u.Admin, u.CreatedAt.UTC().Format(time.DateTime))
	}
	return w.Flush()
}

// userDelete is "worktally user delete".
type userDelete struct {
	connection
	Name string `arg:"" help:"The username."`
}

// Run says what it did on standard error.
func (c userDelete) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	if err := to.do(http.MethodDelete, nil, nil, "users", c.Name); err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "User %s is deleted.\n", c.Name)
	return nil
}

// userRotateToken is "worktally user rotate-token".
type userRotateToken struct {
	connection
	output
	Name string `arg:"" optional:"" default:"me" help:"The username; yourself if left out."`
}

// Run prints the new token alone on standard output.
func (c userRotateToken) Run(p *program) error {
	to, err := c.open(p)
	if err != nil {
		return err
	}
	var t controlapi.Token
	if err := to.do(http.MethodPost, nil, &t, "users", c.Name, "token"); err != nil {
		return err
	}
	return p.writeToken(c.output, t)
}

// writeToken prints a token that replaces another.
func (p *program) writeToken(o output, t controlapi.Token) error {
	if o.Output == "json" {
		return p.writeJSON(t)
	}
	old := "is invalid from now on"
	if t.OldEnds != nil {
		old = "is valid until " + t.OldEnds.UTC().Format(time.DateTime) + " UTC"
	}
	fmt.Fprintf(p.stderr, "The old token %s. The new one cannot be shown again:\n", old)
	_, err := fmt.Fprintln(p.stdout, t.Token)
	return err
}
