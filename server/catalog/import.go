package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

// Imported tells what became of the items of an Import.
type Imported struct {
	// Errors has one entry for each item, nil if it is stored.
	Errors []error
	// Created are the workspaces that are new, without their agents.
	Created []Workspace
	// Changed are the workspaces that were renamed, or have another template or
	// further agents.
	Changed []uuid.UUID
}

func (o *Imported) add(im *importer) {
	o.Created = append(o.Created, im.created...)
	o.Changed = append(o.Changed, im.changed...)
}

// Import stores items in their order, all that is good in one transaction. An item
// that is wrong is reported and leaves nothing behind; the others are stored. What
// is stored already is not changed by a repetition. The error is about the
// database: nothing may be stored then.
func (c *Catalog) Import(ctx context.Context, items []ImportItem) (Imported, error) {
	out := Imported{Errors: make([]error, len(items))}
	var good []int
	for i, item := range items {
		if out.Errors[i] = item.check(); out.Errors[i] == nil {
			good = append(good, i)
		}
	}
	for upto := len(good); len(good) > 0; upto = len(good) {
		done, failed, err := c.importAll(ctx, items, good)
		if err == nil {
			out.add(done)
			return out, nil
		}
		if !isAboutItem(err) {
			return out, fmt.Errorf("import: %w", err)
		}
		// What came before goes alone, so that no item is tried more than twice.
		out.Errors[good[failed]] = err
		if failed > 0 {
			if done, _, err = c.importAll(ctx, items, good[:failed]); err != nil {
				return out, fmt.Errorf("import: %w", err)
			}
			out.add(done)
		}
		good = good[failed+1 : upto]
	}
	return out, nil
}

func isAboutItem(err error) bool {
	for _, known := range []error{ErrNotFound, ErrExists, ErrInvalid, ErrForgotten, ErrForbidden} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// importAll stores the items with these indices, or none of them. If one is wrong
// it tells which.
func (c *Catalog) importAll(ctx context.Context, items []ImportItem, indices []int) (im *importer, failed int, err error) {
	err = c.record(ctx, func(e *events) error {
		im = &importer{events: e, owners: make(map[string]uuid.UUID)}
		for failed = range indices {
			if err := im.put(items[indices[failed]]); err != nil {
				return err
			}
		}
		return im.flushAgents()
	})
	return im, failed, err
}

// importer is one transaction of an import.
type importer struct {
	*events
	owners  map[string]uuid.UUID
	agents  []newAgent
	created []Workspace
	changed []uuid.UUID
}

// newAgent is an agent that is to be inserted.
type newAgent struct {
	id, workspace uuid.UUID
	name, spec    string
}

func (im *importer) put(item ImportItem) (err error) {
	switch {
	case item.User != nil:
		return im.putUser(*item.User)
	case item.Template != nil:
		var renamed []uuid.UUID
		_, renamed, err = im.putTemplate(*item.Template)
		im.changed = append(im.changed, renamed...)
	case item.TemplateVersion != nil:
		_, err = im.putVersion(*item.TemplateVersion)
	case item.Workspace != nil:
		return im.putWorkspace(*item.Workspace)
	case item.Build != nil:
		_, err = im.putBuild(*item.Build)
	default:
		_, err = im.putJob(*item.Job)
	}
	return err
}

func (im *importer) putUser(u ImportUser) error {
	known, err := userByName(im.ctx, im.tx, u.Username)
	if errors.Is(err, ErrNotFound) {
		_, _, err = insertUser(im.ctx, im.tx, u.Username, u.Admin, im.now)
	}
	if err == nil && u.Email != "" && u.Email != known.Email {
		err = setEmail(im.ctx, im.tx, u.Username, u.Email)
	}
	return err
}

// putWorkspace stores a workspace, its agents and its latest build.
func (im *importer) putWorkspace(w ImportWorkspace) error {
	owner, err := im.ownerID(w.Owner)
	if err != nil {
		return err
	}
	id, isNew, err := im.storeWorkspace(w, owner)
	if err != nil {
		return err
	}
	if err := im.addAgents(id, isNew, w.Agents); err != nil {
		return err
	}
	if w.Build == nil {
		return nil
	}
	build := *w.Build
	if build.WorkspaceID != uuid.Nil && build.WorkspaceID != id {
		return fmt.Errorf("%w workspace_id of the build: it is another workspace", ErrInvalid)
	}
	build.WorkspaceID = id
	if isNew {
		_, err = im.putFirstBuild(build, w.Template)
	} else {
		_, err = im.putBuild(build)
	}
	return err
}

func (im *importer) ownerID(name string) (uuid.UUID, error) {
	if id, ok := im.owners[name]; ok {
		return id, nil
	}
	u, err := userByName(im.ctx, im.tx, name)
	if err == nil {
		im.owners[name] = u.ID
	}
	return u.ID, err
}

func (im *importer) storeWorkspace(w ImportWorkspace, owner uuid.UUID) (id uuid.UUID, isNew bool, err error) {
	query, args := `id = $1`, []any{w.ID}
	if w.ID == uuid.Nil {
		query, args = `owner_id = $1 AND name = $2 AND deleted_at = 0`, []any{owner, w.Name}
	}
	var known Workspace
	var deleted int64
	err = im.tx.QueryRowContext(im.ctx, `SELECT id, owner_id, name, template_name, template_version, deleted_at FROM catalog_workspaces WHERE `+query, args...).
		Scan(&known.ID, &known.OwnerID, &known.Name, &known.Template.Name, &known.Template.Version, &deleted)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return im.insert(w, owner)
	case err != nil:
		return uuid.Nil, false, err
	case deleted != 0:
		return uuid.Nil, false, fmt.Errorf("workspace %s: %w: it was deleted", w.ID, ErrExists)
	case known.OwnerID != owner:
		return uuid.Nil, false, fmt.Errorf("workspace %s: %w: with another owner, and a workspace keeps its owner", w.ID, ErrExists)
	case known.Name == w.Name && (w.Template == Template{} || known.Template == w.Template):
		return known.ID, false, nil
	}
	if w.Template == (Template{}) {
		w.Template = known.Template
	}
	im.changed = append(im.changed, known.ID)
	return known.ID, false, updateWorkspace(im.ctx, im.tx, known.ID, Spec{Name: w.Name, Template: w.Template}, &Applied{})
}

func (im *importer) insert(w ImportWorkspace, owner uuid.UUID) (uuid.UUID, bool, error) {
	if w.ID == uuid.Nil {
		w.ID = uuid.New()
	}
	created := earlier(firstTime(stored(w.CreatedAt), im.now), im.now)
	_, err := im.tx.ExecContext(im.ctx, `INSERT INTO catalog_workspaces (id, owner_id, name, template_name, template_version, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)`, w.ID, owner, w.Name, w.Template.Name, w.Template.Version, sqldb.Micros(created))
	if sqldb.IsUnique(err) {
		err = fmt.Errorf("workspace %s/%s: %w: with another id", w.Owner, w.Name, ErrExists)
	}
	im.created = append(im.created, Workspace{ID: w.ID, Name: w.Name, OwnerID: owner, OwnerName: w.Owner, Template: w.Template, CreatedAt: created})
	return w.ID, true, err
}

// addAgents notes the agents that are missing.
func (im *importer) addAgents(workspace uuid.UUID, isNew bool, agents []ImportAgent) error {
	if len(agents) == 0 {
		return nil
	}
	known := make(map[string]bool)
	if !isNew {
		if err := im.flushAgents(); err != nil { // some may be its own
			return err
		}
		rows, err := im.tx.QueryContext(im.ctx, `SELECT name FROM catalog_agents WHERE workspace_id = $1`, workspace)
		if err != nil {
			return err
		}
		names, err := collect(rows, func(r rowScanner) (s string, err error) { return s, r.Scan(&s) })
		if err != nil {
			return err
		}
		for _, name := range names {
			known[name] = true
		}
	}
	missing := 0
	for _, a := range agents {
		if known[a.Name] {
			continue
		}
		known[a.Name] = true
		spec := AgentSpec{Name: a.Name}
		id := spec.fillIDs(workspace)
		text, err := json.Marshal(spec)
		if err != nil {
			return err
		}
		im.agents = append(im.agents, newAgent{id, workspace, a.Name, string(text)})
		missing++
	}
	if missing > 0 && !isNew {
		im.changed = append(im.changed, workspace)
	}
	return nil
}

// agentChunk is how many agents one statement inserts.
const agentChunk = 200

// flushAgents inserts the agents that were noted.
func (im *importer) flushAgents() error {
	for chunk := range slices.Chunk(im.agents, agentChunk) {
		var agents, states []any
		for _, a := range chunk {
			agents = append(agents, a.id, a.workspace, a.name, hashToken(newAgentToken()), a.spec)
			states = append(states, a.id)
		}
		if _, err := im.tx.ExecContext(im.ctx, `INSERT INTO catalog_agents (id, workspace_id, name, token_hash, spec) VALUES `+places(len(chunk), 5), agents...); err != nil {
			return err
		}
		if _, err := im.tx.ExecContext(im.ctx, `INSERT INTO catalog_states (agent_id) VALUES `+places(len(chunk), 1), states...); err != nil {
			return err
		}
	}
	im.agents = im.agents[:0]
	return nil
}

// places returns ($1, $2), ($3, $4) for two rows of two columns.
func places(rows, columns int) string {
	var b strings.Builder
	for n := range rows * columns {
		switch {
		case n%columns > 0:
			b.WriteString(", ")
		case n > 0:
			b.WriteString("), (")
		default:
			b.WriteByte('(')
		}
		fmt.Fprintf(&b, "$%d", n+1)
	}
	return b.String() + ")"
}
