package catalog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Transition is what a build does to its workspace.
type Transition string

// The transitions.
const (
	TransitionStart  Transition = "start"
	TransitionStop   Transition = "stop"
	TransitionDelete Transition = "delete"
)

// Transitions returns all of them.
func Transitions() []Transition {
	return []Transition{TransitionStart, TransitionStop, TransitionDelete}
}

const (
	// maxBuilds bounds the builds that are kept of a workspace. Older ones are
	// forgotten and never count again.
	maxBuilds = 100
	// maxNumber is the largest number of a build: the last that JSON's readers tell
	// from the next.
	maxNumber = 1<<53 - 1
	// maxParameterValue bounds a parameter's value in an event, in bytes; maxKeptValue
	// what is kept of it.
	maxParameterValue = 32 << 10
	maxKeptValue      = 256
)

// Redacted stands for the value of a parameter that is not marked safe.
const Redacted = "redacted"

// Build is a build of a workspace, or an event about one. The first event has to
// name workspace and transition; later ones may leave out all but the id, and
// cannot change what was said.
type Build struct {
	ID          uuid.UUID `json:"id,omitzero"`
	WorkspaceID uuid.UUID `json:"workspace_id,omitzero"`
	// Number orders the builds of a workspace; the next one if left out.
	Number     int64      `json:"number,omitempty"`
	Transition Transition `json:"transition,omitempty"`
	// Template and version are those of the workspace if left out.
	Template Template `json:"template,omitzero"`
	// Provisioner, if named, counts the build among its jobs too.
	Provisioner string `json:"provisioner,omitempty"`
	// Parameters by name. Values that are not marked safe are not kept.
	Parameters map[string]string `json:"parameters,omitempty"`
	Status     Status            `json:"status,omitempty"`
	CreatedAt  time.Time         `json:"created_at,omitzero"`
	StartedAt  time.Time         `json:"started_at,omitzero"`
	EndedAt    time.Time         `json:"ended_at,omitzero"`
}

func (b Build) run() run { return eventRun(b.Status, b.CreatedAt, b.StartedAt, b.EndedAt) }

func (b Build) check() error {
	switch {
	case b.ID == uuid.Nil:
		return fmt.Errorf("%w id: want a UUID that is not zero", ErrInvalid)
	case b.Number < 0 || b.Number > maxNumber:
		return fmt.Errorf("%w number: want 1 to 2^53-1", ErrInvalid)
	case b.Transition != "" && !slices.Contains(Transitions(), b.Transition):
		return fmt.Errorf("%w transition %q: want one of %v", ErrInvalid, clean(string(b.Transition)), Transitions())
	case b.Template.Name != "" && !namePattern.MatchString(b.Template.Name):
		return fmt.Errorf("%w template name: %s", ErrInvalid, nameRule)
	case len(b.Template.Version) > maxVersionName || clean(b.Template.Version) != b.Template.Version:
		return fmt.Errorf("%w template version: want at most %d bytes of text", ErrInvalid, maxVersionName)
	case b.Provisioner != "" && !provisionerPattern.MatchString(b.Provisioner):
		return fmt.Errorf("%w provisioner: want 1 to 32 letters, digits, _, . or -", ErrInvalid)
	case len(b.Parameters) > maxParameters:
		return fmt.Errorf("%w parameters: %d, more than %d", ErrInvalid, len(b.Parameters), maxParameters)
	}
	for name, value := range b.Parameters {
		if err := checkParameterName(name); err != nil {
			return err
		}
		if len(value) > maxParameterValue { // the value may be a secret
			return fmt.Errorf("%w value of parameter %q: it has more than %d bytes", ErrInvalid, name, maxParameterValue)
		}
	}
	return b.Status.check()
}

// PutBuild takes an event about a build in and returns what is known of it then.
// The order of events does not matter, nor does a repetition: a build that has
// ended stays so and was counted once. A workspace or build that is not known is
// ErrNotFound, a contradiction to what was said or a number that another build has
// ErrExists, a build older than the 100 that are kept ErrForgotten.
func (c *Catalog) PutBuild(ctx context.Context, event Build) (out Build, err error) {
	if err = event.check(); err == nil {
		err = c.record(ctx, func(e *events) error {
			out, err = e.putBuild(event)
			return err
		})
	}
	if err != nil {
		return Build{}, fmt.Errorf("build %s: %w", event.ID, err)
	}
	return out, nil
}
