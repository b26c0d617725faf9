package catalog

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// ImportItem is one thing to import: exactly one field is set.
type ImportItem struct {
	User            *ImportUser      `json:"user,omitempty"`
	Template        *TemplateInfo    `json:"template,omitempty"`
	TemplateVersion *TemplateVersion `json:"template_version,omitempty"`
	Workspace       *ImportWorkspace `json:"workspace,omitempty"`
	Build           *Build           `json:"build,omitempty"`
	Job             *Job             `json:"job,omitempty"`
}

// ImportUser is a user to import. One who exists keeps the token and whether an
// administrator. A new one's token is known to nobody: rotating it yields one.
type ImportUser struct {
	Username string `json:"username"`
	Email    string `json:"email,omitempty"`
	Admin    bool   `json:"admin,omitempty"`
}

// ImportWorkspace is a workspace to import, found by its id, or by owner and name if
// there is none.
type ImportWorkspace struct {
	ID       uuid.UUID `json:"id,omitzero"`
	Owner    string    `json:"owner"`
	Name     string    `json:"name"`
	Template Template  `json:"template,omitzero"`
	// CreatedAt is used for a new one.
	CreatedAt time.Time `json:"created_at,omitzero"`
	// Agents that are missing are made; those that are there stay as they are. A new
	// one's token is known to nobody: rotating it yields one.
	Agents []ImportAgent `json:"agents,omitempty"`
	// Build is the latest build.
	Build *Build `json:"build,omitempty"`
}

// ImportAgent is an agent of an ImportWorkspace.
type ImportAgent struct {
	Name string `json:"name"`
}

// Kind names the field that is set.
func (i ImportItem) Kind() string {
	switch {
	case i.User != nil:
		return "user"
	case i.Template != nil:
		return "template"
	case i.TemplateVersion != nil:
		return "template_version"
	case i.Workspace != nil:
		return "workspace"
	case i.Build != nil:
		return "build"
	}
	return "job"
}

// check returns the first problem of an item by itself.
func (i ImportItem) check() error {
	set := 0
	for _, is := range []bool{i.User != nil, i.Template != nil, i.TemplateVersion != nil, i.Workspace != nil, i.Build != nil, i.Job != nil} {
		set += int(sqldb.Bit(is))
	}
	if set != 1 {
		return fmt.Errorf("%w item: want one of user, template, template_version, workspace, build and job, not %d of them", ErrInvalid, set)
	}
	switch {
	case i.User != nil:
		return checkEmail(i.User.Email)
	case i.Template != nil:
		return i.Template.check()
	case i.TemplateVersion != nil:
		return i.TemplateVersion.check()
	case i.Workspace != nil:
		return i.Workspace.check()
	case i.Build != nil:
		return i.Build.check()
	}
	return i.Job.check()
}

func (w *ImportWorkspace) check() error {
	if !namePattern.MatchString(w.Name) || w.Owner == "" {
		return fmt.Errorf("%w name or owner of the workspace: %s", ErrInvalid, nameRule)
	}
	if w.Template.Name != "" && !namePattern.MatchString(w.Template.Name) || len(w.Template.Version) > maxVersionName || clean(w.Template.Version) != w.Template.Version {
		return fmt.Errorf("%w template of the workspace", ErrInvalid)
	}
	if len(w.Agents) > maxAgents {
		return fmt.Errorf("%w agents: %d, more than %d", ErrInvalid, len(w.Agents), maxAgents)
	}
	for _, a := range w.Agents {
		if !namePattern.MatchString(a.Name) {
			return fmt.Errorf("%w name of an agent: %s", ErrInvalid, nameRule)
		}
	}
	if w.Build != nil {
		return w.Build.check()
	}
	return nil
}
