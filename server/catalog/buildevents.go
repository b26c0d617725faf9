package catalog

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

func (e *events) putBuild(event Build) (Build, error) {
	known, err := e.build(event.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		if event.WorkspaceID == uuid.Nil {
			return Build{}, fmt.Errorf("%w, and the first event of a build has to name workspace_id and transition", err)
		}
	case err != nil:
		return Build{}, err
	case known.agrees(event) != nil:
		return Build{}, known.agrees(event)
	case !known.changes(event, e.now): // what is known never goes back, so there is nothing to lock
		return known.out(), nil
	default:
		event.WorkspaceID = known.WorkspaceID
	}
	workspace, err := e.workspaceTemplate(event.WorkspaceID)
	if err != nil {
		return Build{}, err
	}
	head, err := e.lockHead(event.WorkspaceID)
	if err != nil {
		return Build{}, err
	}
	known, err = e.build(event.ID) // under the lock
	isNew := errors.Is(err, ErrNotFound)
	switch {
	case isNew:
		known, err = e.newBuild(event, workspace, head)
	case err == nil:
		err = known.agrees(event)
	}
	if err != nil {
		return Build{}, err
	}
	return e.mergeBuild(known, event, isNew, head)
}

// putFirstBuild is putBuild for a workspace that this transaction made: nobody else
// knows it, and it has no builds.
func (e *events) putFirstBuild(event Build, workspace Template) (Build, error) {
	known, err := e.newBuild(event, workspace, buildHead{})
	if err != nil {
		return Build{}, err
	}
	return e.mergeBuild(known, event, true, buildHead{})
}

// changes says whether an event tells anything new.
func (b buildRow) changes(event Build, now time.Time) bool {
	return b.Parameters == nil && event.Parameters != nil || b.run.merge(event.run(), now) != b.run
}

// mergeBuild brings an event and what is known together, writes and counts.
func (e *events) mergeBuild(known buildRow, event Build, isNew bool, head buildHead) (Build, error) {
	next := known
	next.run = known.run.merge(event.run(), e.now)
	if known.Parameters == nil && event.Parameters != nil {
		var err error
		if next.Parameters, err = e.keptParameters(event.Parameters, known.Template); err != nil {
			return Build{}, err
		}
	}
	if _, done := next.run.duration(); done && !next.run.timed && next.Provisioner != "" {
		e.timed(next.Provisioner, next.run)
		next.run.timed = true
	}
	if isNew || known.changes(event, e.now) {
		if err := e.writeBuild(next, isNew); err != nil {
			return Build{}, err
		}
	}
	if err := e.countBuild(next, isNew, known.run.status.Ended(), head.latest == 0); err != nil {
		return Build{}, err
	}
	if isNew {
		if err := e.moveHead(next, head); err != nil {
			return Build{}, err
		}
	}
	return next.out(), nil
}

// newBuild is what the first event tells of a build.
func (e *events) newBuild(event Build, workspace Template, head buildHead) (buildRow, error) {
	if event.Transition == "" {
		return buildRow{}, fmt.Errorf("%w transition: the first event of a build has to name it", ErrInvalid)
	}
	if event.Number == 0 {
		event.Number = max(head.latest, head.forgotten) + 1
	}
	if event.Number > maxNumber {
		return buildRow{}, fmt.Errorf("%w number: none is left after %d", ErrInvalid, int64(maxNumber))
	}
	if event.Number <= head.forgotten {
		return buildRow{}, fmt.Errorf("%w: %d builds of a workspace are kept", ErrForgotten, maxBuilds)
	}
	if head.latest > 0 {
		var other uuid.UUID
		err := e.tx.QueryRowContext(e.ctx, `SELECT id FROM catalog_builds WHERE workspace_id = $1 AND number = $2`, event.WorkspaceID, event.Number).Scan(&other)
		if err == nil {
			return buildRow{}, fmt.Errorf("%w: build %s of the workspace has number %d", ErrExists, other, event.Number)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return buildRow{}, err
		}
	}
	if event.Template.Name == "" {
		event.Template.Name = workspace.Name
	}
	if event.Template.Version == "" && event.Template.Name == workspace.Name {
		event.Template.Version = workspace.Version
	}
	event.Parameters = nil // they are looked at later
	return buildRow{event, newRun(e.now)}, nil
}

// agrees says whether an event contradicts what was said before.
func (b buildRow) agrees(event Build) error {
	switch {
	case event.WorkspaceID != uuid.Nil && event.WorkspaceID != b.WorkspaceID:
		return fmt.Errorf("%w: it is of workspace %s", ErrExists, b.WorkspaceID)
	case event.Number != 0 && event.Number != b.Number:
		return fmt.Errorf("%w: it has number %d", ErrExists, b.Number)
	case event.Transition != "" && event.Transition != b.Transition:
		return fmt.Errorf("%w: its transition is %s", ErrExists, b.Transition)
	}
	return nil
}

// keptParameters drops the values of parameters that the version does not mark safe,
// or does not know: they may be secrets.
func (e *events) keptParameters(values map[string]string, t Template) (map[string]string, error) {
	declared, looked := e.declared[t]
	if !looked {
		var err error
		if declared, err = parametersOf(e.ctx, e.tx, t); err != nil {
			return nil, err
		}
		e.declared[t] = declared
	}
	kept := make(map[string]string, len(values))
	for name, value := range values {
		kept[name] = Redacted
		if slices.ContainsFunc(declared, func(p Parameter) bool { return p.Name == name && p.Safe }) {
			kept[name] = cut(clean(value), maxKeptValue)
		}
	}
	return kept, nil
}
