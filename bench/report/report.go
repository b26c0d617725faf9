// Package report shows what benchmarks measured beside the limits that hold: a
// table for people, a JSON file for programs.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// Row is one figure, lower being better. It may have a limit.
type Row struct {
	// Name is its key in the JSON, What tells people about it.
	Name, What, Unit string
	// Target is the limit, 0 if there is none.
	Target float64
	// Peer is the best figure of others, 0 if there is none.
	Peer float64
	// Value is what was measured, if it was.
	Value    float64
	Measured bool
}

// Rows are the figures of a run. They belong to one goroutine.
type Rows []Row

// Set writes a figure down. The row must be there.
func (r Rows) Set(name string, value float64) {
	row := r.find(name)
	row.Value, row.Measured = value, true
}

// SetPeer writes down what others need for the same.
func (r Rows) SetPeer(name string, value float64) { r.find(name).Peer = value }

func (r Rows) find(name string) *Row {
	i := slices.IndexFunc(r, func(r Row) bool { return r.Name == name })
	if i < 0 {
		panic("BUG: report: no row " + name)
	}
	return &r[i]
}

// WriteTable writes the table; peer is the heading of the others' column.
func WriteTable(w io.Writer, rows Rows, peer string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tVALUE\tUNIT\tTARGET\tBETTER\t"+peer+"\t")
	for _, r := range rows {
		value, target, other, verdict := "-", "-", "-", "not measured"
		if r.Peer > 0 {
			other = fmt.Sprintf("%.4g", r.Peer)
		}
		if r.Target > 0 {
			target = fmt.Sprintf("<= %g", r.Target)
		}
		if r.Measured {
			value, verdict = fmt.Sprintf("%.3g", r.Value), "met"
			switch {
			case r.Target == 0:
				verdict = ""
			case r.Value > r.Target:
				verdict = "NOT MET"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\tlower\t%s\t%s\n", r.What, value, r.Unit, target, other, verdict)
	}
	_ = t.Flush() // nobody is left to tell
}

// entry is a row in the JSON. What is not known is null.
type entry struct {
	Value  *float64 `json:"value"`
	Unit   string   `json:"unit"`
	Target *float64 `json:"target"`
	Better string   `json:"better"`
	Peer   *float64 `json:"peer"`
}

// WriteJSON writes the file, and the directory that it is in.
func WriteJSON(path string, rows Rows) error {
	all := make(map[string]entry)
	for _, r := range rows {
		e := entry{Unit: r.Unit, Better: "lower"}
		if r.Measured {
			e.Value = &r.Value
		}
		if r.Target > 0 {
			e.Target = &r.Target
		}
		if r.Peer > 0 {
			e.Peer = &r.Peer
		}
		all[r.Name] = e
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Median sorts the values and returns the one in the middle.
func Median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
