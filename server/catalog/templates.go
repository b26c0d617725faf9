package catalog

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/internal/sqldb"
)

const (
	// maxVersionName bounds the name of a template version, in bytes.
	maxVersionName = 128
	// maxParameters bounds the parameters of a version and of a build.
	maxParameters = 64
	// maxParameterName bounds a parameter's name, in bytes.
	maxParameterName = 64
)

// TemplateInfo is a template that a control plane told of, or an event about one.
type TemplateInfo struct {
	ID   uuid.UUID `json:"id,omitzero"`
	Name string    `json:"name"`
	// UpdatedAt is when this became so, for events that come late; the receipt if
	// left out.
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// TemplateVersion is a version of a template, or an event about one.
type TemplateVersion struct {
	ID         uuid.UUID   `json:"id,omitzero"`
	TemplateID uuid.UUID   `json:"template_id"`
	Name       string      `json:"name"`
	Parameters []Parameter `json:"parameters,omitempty"`
	// UpdatedAt is as in TemplateInfo.
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// Parameter is one that whoever builds a workspace gives a value.
type Parameter struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Safe values may be kept and shown; all others are neither.
	Safe bool `json:"safe,omitempty"`
}

// ParameterTypes returns what the type of a parameter may be.
func ParameterTypes() []string { return []string{"string", "number", "bool", "list(string)"} }

func (t TemplateInfo) check() error {
	if t.ID == uuid.Nil {
		return fmt.Errorf("%w id: want a UUID that is not zero", ErrInvalid)
	}
	if !namePattern.MatchString(t.Name) {
		return fmt.Errorf("%w name: %s", ErrInvalid, nameRule)
	}
	return nil
}

func (v TemplateVersion) check() error {
	if v.ID == uuid.Nil || v.TemplateID == uuid.Nil {
		return fmt.Errorf("%w id or template_id: want a UUID that is not zero", ErrInvalid)
	}
	if v.Name == "" || len(v.Name) > maxVersionName || clean(v.Name) != v.Name {
		return fmt.Errorf("%w name: want 1 to %d bytes of text", ErrInvalid, maxVersionName)
	}
	if len(v.Parameters) > maxParameters {
		return fmt.Errorf("%w parameters: %d, more than %d", ErrInvalid, len(v.Parameters), maxParameters)
	}
	for i, p := range v.Parameters {
		if err := checkParameterName(p.Name); err != nil {
			return err
		}
		if !slices.Contains(ParameterTypes(), p.Type) {
			return fmt.Errorf("%w type of parameter %q: want one of %v", ErrInvalid, p.Name, ParameterTypes())
		}
		if slices.ContainsFunc(v.Parameters[:i], func(o Parameter) bool { return o.Name == p.Name }) {
			return fmt.Errorf("%w parameter %q: it is there twice", ErrInvalid, p.Name)
		}
	}
	return nil
}

func checkParameterName(name string) error {
	if name == "" || len(name) > maxParameterName || clean(name) != name {
		return fmt.Errorf("%w name of a parameter: want 1 to %d bytes of text", ErrInvalid, maxParameterName)
	}
	return nil
}

// PutTemplate takes an event about a template in and returns what is known of it
// then. A name that another template has is ErrExists. The workspaces of a template
// that was renamed, whose ids are returned, and its builds get the new name.
func (c *Catalog) PutTemplate(ctx context.Context, event TemplateInfo) (out TemplateInfo, renamed []uuid.UUID, err error) {
	if err = event.check(); err == nil {
		err = c.record(ctx, func(e *events) error {
			out, renamed, err = e.putTemplate(event)
			return err
		})
	}
	if err != nil {
		return TemplateInfo{}, nil, fmt.Errorf("template %s: %w", event.ID, err)
	}
	return out, renamed, nil
}

func (e *events) putTemplate(event TemplateInfo) (TemplateInfo, []uuid.UUID, error) {
	event.UpdatedAt = earlier(firstTime(stored(event.UpdatedAt), e.now), e.now)
	known, err := templateBy(e.ctx, e.tx, `id`, event.ID)
	isNew := errors.Is(err, ErrNotFound)
	if err != nil && !isNew {
		return TemplateInfo{}, nil, err
	}
	if !isNew && (event.UpdatedAt.Before(known.UpdatedAt) || event.Name == known.Name) {
		return known, nil, nil
	}
	if other, err := templateBy(e.ctx, e.tx, `name`, event.Name); err == nil {
		return TemplateInfo{}, nil, fmt.Errorf("%w: template %s is called %s", ErrExists, other.ID, event.Name)
	} else if !errors.Is(err, ErrNotFound) {
		return TemplateInfo{}, nil, err
	}
	_, err = e.tx.ExecContext(e.ctx, `INSERT INTO catalog_templates (id, name, updated_at) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, updated_at = excluded.updated_at`, event.ID, event.Name, sqldb.Micros(event.UpdatedAt))
	if sqldb.IsUnique(err) { // somebody was faster
		err = ErrExists
	}
	if err != nil || isNew {
		return event, nil, err
	}
	clear(e.declared)
	renamed, err := e.renameTemplate(known.Name, event.Name)
	return event, renamed, err
}

// renameTemplate gives what names the template the new name.
func (e *events) renameTemplate(from, to string) ([]uuid.UUID, error) {
	for _, query := range []string{
		`UPDATE catalog_builds SET template_name = $2 WHERE template_name = $1`,
		`INSERT INTO catalog_build_totals (workspace_id, transition, status, template_name, template_version, value, updated_at)
			SELECT workspace_id, transition, status, $2, template_version, value, updated_at FROM catalog_build_totals WHERE template_name = $1
			ON CONFLICT (workspace_id, transition, status, template_name, template_version)
			DO UPDATE SET value = catalog_build_totals.value + excluded.value`,
		`DELETE FROM catalog_build_totals WHERE template_name = $1`,
	} {
		args := []any{from, to}
		if query[0] == 'D' {
			args = args[:1]
		}
		if _, err := e.tx.ExecContext(e.ctx, query, args...); err != nil {
			return nil, fmt.Errorf("rename: %w", err)
		}
	}
	rows, err := e.tx.QueryContext(e.ctx, `UPDATE catalog_workspaces SET template_name = $2 WHERE template_name = $1 AND deleted_at = 0 RETURNING id`, from, to)
	if err != nil {
		return nil, fmt.Errorf("rename: %w", err)
	}
	return collect(rows, func(r rowScanner) (id uuid.UUID, err error) { return id, r.Scan(&id) })
}

func templateBy(ctx context.Context, q querier, column string, value any) (TemplateInfo, error) {
	t, err := scanTemplate(q.QueryRowContext(ctx, `SELECT id, name, updated_at FROM catalog_templates WHERE `+column+` = $1`, value))
	return t, found(err, "template %v", value)
}

func scanTemplate(row rowScanner) (TemplateInfo, error) {
	var t TemplateInfo
	var updated int64
	err := row.Scan(&t.ID, &t.Name, &updated)
	t.UpdatedAt = sqldb.Time(updated)
	return t, err
}

// Templates returns the templates that a control plane told of, by name.
func (c *Catalog) Templates(ctx context.Context) ([]TemplateInfo, error) {
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT id, name, updated_at FROM catalog_templates ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list templates: %w", err)
	}
	return collect(rows, scanTemplate)
}

// Template returns a template.
func (c *Catalog) Template(ctx context.Context, id uuid.UUID) (TemplateInfo, error) {
	return templateBy(ctx, c.db.Reader(), `id`, id)
}

// PutTemplateVersion takes an event about a version in and returns what is known of
// it then. A template that is not known is ErrNotFound; a name that another version
// of the template has, or another template than before, ErrExists.
func (c *Catalog) PutTemplateVersion(ctx context.Context, event TemplateVersion) (out TemplateVersion, err error) {
	if err = event.check(); err == nil {
		err = c.record(ctx, func(e *events) error {
			out, err = e.putVersion(event)
			return err
		})
	}
	if err != nil {
		return TemplateVersion{}, fmt.Errorf("template version %s: %w", event.ID, err)
	}
	return out, nil
}

func (e *events) putVersion(event TemplateVersion) (TemplateVersion, error) {
	event.UpdatedAt = earlier(firstTime(stored(event.UpdatedAt), e.now), e.now)
	if _, err := templateBy(e.ctx, e.tx, `id`, event.TemplateID); err != nil {
		return TemplateVersion{}, err
	}
	known, err := versionByID(e.ctx, e.tx, event.ID)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return TemplateVersion{}, err
	case known.TemplateID != event.TemplateID:
		return TemplateVersion{}, fmt.Errorf("%w: it belongs to template %s", ErrExists, known.TemplateID)
	case event.UpdatedAt.Before(known.UpdatedAt) || event.Name == known.Name && slices.Equal(event.Parameters, known.Parameters):
		return known, nil
	}
	var taken int
	if err := e.tx.QueryRowContext(e.ctx, `SELECT COUNT(*) FROM catalog_template_versions WHERE template_id = $1 AND name = $2 AND id <> $3`,
		event.TemplateID, event.Name, event.ID).Scan(&taken); err != nil {
		return TemplateVersion{}, err
	}
	if taken > 0 {
		return TemplateVersion{}, fmt.Errorf("%w: another version of the template is called %q", ErrExists, event.Name)
	}
	parameters, err := json.Marshal(append([]Parameter{}, event.Parameters...))
	if err != nil {
		return TemplateVersion{}, err
	}
	_, err = e.tx.ExecContext(e.ctx, `INSERT INTO catalog_template_versions (id, template_id, name, parameters, updated_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, parameters = excluded.parameters, updated_at = excluded.updated_at`,
		event.ID, event.TemplateID, event.Name, string(parameters), sqldb.Micros(event.UpdatedAt))
	if sqldb.IsUnique(err) {
		err = ErrExists
	}
	clear(e.declared)
	return event, err
}

const versionColumns = `v.id, v.template_id, v.name, v.parameters, v.updated_at`

func scanVersion(row rowScanner) (TemplateVersion, error) {
	var v TemplateVersion
	var parameters string
	var updated int64
	if err := row.Scan(&v.ID, &v.TemplateID, &v.Name, &parameters, &updated); err != nil {
		return v, err
	}
	v.UpdatedAt = sqldb.Time(updated)
	return v, json.Unmarshal([]byte(parameters), &v.Parameters)
}

func versionByID(ctx context.Context, q querier, id uuid.UUID) (TemplateVersion, error) {
	v, err := scanVersion(q.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM catalog_template_versions v WHERE v.id = $1`, id))
	return v, found(err, "template version %s", id)
}

// parametersOf returns the parameters of a version of a template by their names,
// nil if it is not known.
func parametersOf(ctx context.Context, q querier, t Template) ([]Parameter, error) {
	v, err := scanVersion(q.QueryRowContext(ctx, `SELECT `+versionColumns+` FROM catalog_template_versions v
		JOIN catalog_templates t ON t.id = v.template_id WHERE t.name = $1 AND v.name = $2`, t.Name, t.Version))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return v.Parameters, err
}

// TemplateVersion returns a version.
func (c *Catalog) TemplateVersion(ctx context.Context, id uuid.UUID) (TemplateVersion, error) {
	return versionByID(ctx, c.db.Reader(), id)
}

// TemplateVersions returns the versions of a template by name.
func (c *Catalog) TemplateVersions(ctx context.Context, template uuid.UUID) ([]TemplateVersion, error) {
	if _, err := c.Template(ctx, template); err != nil {
		return nil, err
	}
	rows, err := c.db.Reader().QueryContext(ctx, `SELECT `+versionColumns+` FROM catalog_template_versions v WHERE v.template_id = $1 ORDER BY v.name`, template)
	if err != nil {
		return nil, fmt.Errorf("list template versions: %w", err)
	}
	return collect(rows, scanVersion)
}
