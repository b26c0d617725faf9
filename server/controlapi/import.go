package controlapi

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/worktally/worktally/server/audit"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
)

const (
	// importBatch is how many items go into one transaction.
	importBatch = 500
	// maxImport bounds the body of an import, in bytes.
	maxImport = 1 << 30
	// maxImportErrors bounds the errors that the answer lists.
	maxImportErrors = 1000
)

// ImportResult is the answer to an import.
type ImportResult struct {
	// Stored are the items that are stored now, by kind; some may have been before.
	Stored map[string]int `json:"stored"`
	// Failed is how many items were not stored.
	Failed int `json:"failed"`
	// Errors tell why, at most 1000.
	Errors []ImportError `json:"errors"`
}

// ImportError is about one item.
type ImportError struct {
	// Line is the line of the item, or its number in an array, from 1.
	Line   int    `json:"line"`
	Detail string `json:"detail"`
}

func (r *ImportResult) failed(line int, err error) {
	r.Failed++
	if len(r.Errors) < maxImportErrors {
		r.Errors = append(r.Errors, ImportError{line, err.Error()})
	}
}

// sort brings the errors into the order of the items: what cannot be read is known
// before what cannot be stored.
func (r *ImportResult) sort() {
	slices.SortStableFunc(r.Errors, func(a, b ImportError) int { return cmp.Compare(a.Line, b.Line) })
}

// importState stores the items of the body, in batches as they come. What is wrong
// with one is in the answer; the others are stored.
func (a *API) importState(w http.ResponseWriter, r *http.Request, who catalog.User) {
	defer a.o.OnEvent() // once: the rows are made of everything there is
	out := ImportResult{Stored: map[string]int{}, Errors: []ImportError{}}
	defer func() {
		a.record(r, who, audit.Event{Name: audit.Imported, Reason: fmt.Sprintf("stored %v", out.Stored)})
	}()
	in, err := newItemReader(http.MaxBytesReader(w, r.Body, maxImport))
	var items []catalog.ImportItem
	var lines []int
	for err == nil {
		var item catalog.ImportItem
		item, err = in.next()
		if wrong, ok := errors.AsType[itemError](err); ok {
			out.failed(in.number, wrong.error)
			err = nil
		} else if err == nil {
			if why := a.mayImport(r, item); why != nil {
				out.failed(in.number, why)
				continue
			}
			items, lines = append(items, item), append(lines, in.number)
		}
		if len(items) == importBatch || err != nil && len(items) > 0 {
			if failed := a.importItems(r, items, lines, &out); failed != nil {
				a.failErr(w, r, failed)
				return
			}
			items, lines = items[:0], lines[:0]
		}
	}
	if !errors.Is(err, io.EOF) {
		a.brokenImport(w, err, in, out)
		return
	}
	out.sort()
	a.reply(w, http.StatusOK, out)
}

// mayImport says why an item may not be imported: it would be one more user than
// there may be.
func (a *API) mayImport(r *http.Request, item catalog.ImportItem) error {
	if item.User == nil {
		return nil
	}
	why := a.o.MayAddUser()
	if why == nil {
		return nil
	}
	if _, err := a.o.Catalog.UserByName(r.Context(), item.User.Username); err == nil {
		return nil // one who is there already
	}
	return why
}

// brokenImport answers when the rest of the body cannot be read. What came before is
// stored.
func (a *API) brokenImport(w http.ResponseWriter, err error, in *itemReader, out ImportResult) {
	status := http.StatusBadRequest
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		status = http.StatusRequestEntityTooLarge
	}
	line := 1
	if in != nil {
		line = max(in.number, 1)
	}
	problem := wire.Error{Message: "The import could not be read to its end; what came before is stored."}
	out.sort()
	for _, e := range append(out.Errors, ImportError{line, err.Error()}) {
		problem.Validations = append(problem.Validations, wire.Validation{Field: fmt.Sprintf("item %d", e.Line), Detail: e.Detail, Line: e.Line})
	}
	a.fail(w, status, problem)
}

func (a *API) importItems(r *http.Request, items []catalog.ImportItem, lines []int, out *ImportResult) error {
	done, err := a.o.Catalog.Import(r.Context(), items)
	if len(done.Created) > 0 {
		// Nobody knows anything of them yet that would have to end: telling of one is
		// enough to make the page look for their agents.
		a.changed(Change{Workspace: done.Created[0]})
	}
	if err := errors.Join(err, a.allChanged(r, done.Changed)); err != nil {
		return err
	}
	for i, err := range done.Errors {
		if err != nil {
			out.failed(lines[i], err)
		} else {
			out.Stored[items[i].Kind()]++
		}
	}
	return nil
}
