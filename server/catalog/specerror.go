package catalog

import (
	"errors"
	"fmt"
	"strings"
)

// SpecError is one thing that is wrong in a workspace document.
type SpecError struct {
	File   string // as given to ParseSpec
	Line   int    // from 1; 0 if it is about the whole document
	Field  string // such as agents[0].scripts[1].cron; may be empty
	Reason string
}

// Error returns file:line: field: reason.
func (e *SpecError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	return b.String() + ": " + e.Reason
}

// Unwrap makes every SpecError an ErrInvalid.
func (e *SpecError) Unwrap() error { return ErrInvalid }

// SpecErrors returns the problems in an error of ParseSpec, in the order of their
// lines.
func SpecErrors(err error) []*SpecError {
	var list []*SpecError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			list = append(list, SpecErrors(e)...)
		}
		return list
	}
	if one, ok := errors.AsType[*SpecError](err); ok {
		list = append(list, one)
	}
	return list
}
