package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"
)

// result is what a scenario came to. Its counts belong to the scenario's
// goroutine, but for what note and watched write.
type result struct {
	Scenario string `json:"scenario"`
	Seed     uint64 `json:"seed"`
	// Events are sessions and script runs; Kills are of processes, Outages of the
	// network.
	Events  int `json:"events"`
	Kills   int `json:"kills"`
	Outages int `json:"outages"`
	// Resends are windows that the server got again, Drops what agents and server
	// threw away.
	Resends int `json:"resends"`
	Drops   int `json:"drops"`
	// Lost and Doubled are counts (sessions, scripts, bytes) too few and too many.
	Lost    float64 `json:"lost"`
	Doubled float64 `json:"doubled"`
	// Negative is how often a counter that never falls fell.
	Negative float64 `json:"negative"`
	Panics   int     `json:"panics"`
	// Unpromised are counts that were younger than what is promised when an agent
	// was killed, and that it had not kept.
	Unpromised float64  `json:"unpromised"`
	Seconds    float64  `json:"seconds"`
	Skipped    string   `json:"skipped,omitempty"`
	Error      string   `json:"error,omitempty"`
	Dir        string   `json:"dir,omitempty"`
	Notes      []string `json:"notes,omitempty"`

	mu   sync.Mutex
	over float64 // the most that the deployment ever had too much
}

// note compares totals with the least and the most that they may be.
func (r *result) note(where string, least, got, most counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lost, doubled := least.excess(got), got.excess(most)
	r.Lost += lost
	r.Doubled += doubled
	for _, err := range []error{differIf(lost > 0, where+" (at least)", least, got), differIf(doubled > 0, where+" (at most)", most, got)} {
		if err != nil {
			r.Notes = append(r.Notes, err.Error())
		}
	}
}

// noteEnds notes sessions that have ended twice, and those that never did.
func (r *result) noteEnds(s sight) {
	err := s.ends()
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Doubled += max(0, -s.endless)
	r.Lost += max(0, s.endless-s.cut)
	r.Notes = append(r.Notes, err.Error())
}

func differIf(wrong bool, where string, want, got counts) error {
	if !wrong {
		return nil
	}
	return differ(where, want, got)
}

// watched takes what the watcher saw: by how much totals fell, and what they are
// beside the most that they may be.
func (r *result) watched(fell float64, now, most counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if fell > 0 {
		r.Negative++
		r.Notes = append(r.Notes, fmt.Sprintf("totals of the deployment fell by %.0f to %v", fell, now))
	}
	if over := now.excess(most); over > r.over {
		r.Doubled += over - r.over
		r.over = over
		r.Notes = append(r.Notes, differ("the deployment meanwhile (at most)", most, now).Error())
	}
}

// good says whether nothing is wrong.
func (r *result) good() bool {
	return r.Error == "" && r.Lost == 0 && r.Doubled == 0 && r.Negative == 0 && r.Panics == 0
}

// verdict is a word about it.
func (r *result) verdict() string {
	switch {
	case r.Skipped != "":
		return "skipped: " + r.Skipped
	case r.good():
		return "exact"
	default:
		return "FAILED"
	}
}

// writeTable writes the results for people, and how to repeat what went wrong.
func writeTable(out io.Writer, results []*result, kills int) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "SCENARIO\tEVENTS\tKILLS\tOUTAGES\tRESENDS\tDROPS\tSEED\tLOST\tDOUBLED\tNEGATIVE\tPANICS\tUNPROMISED\tSECONDS\tVERDICT\t")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.0f\t%.0f\t%.0f\t%d\t%.0f\t%.1f\t%s\t\n", r.Scenario, r.Events, r.Kills, r.Outages,
			r.Resends, r.Drops, r.Seed, r.Lost, r.Doubled, r.Negative, r.Panics, r.Unpromised, r.Seconds, r.verdict())
	}
	_ = t.Flush() // nobody is left to tell
	for _, r := range results {
		if r.Skipped == "" && !r.good() {
			fmt.Fprintf(out, "\n%s, seed %d (files in %s): %s\n", r.Scenario, r.Seed, r.Dir, r.Error)
			for _, n := range r.Notes[:min(len(r.Notes), 20)] {
				fmt.Fprintln(out, "  "+n)
			}
			fmt.Fprintf(out, "  again: go run ./e2e/faults -set long -only %s -seed %d -kills %d\n", r.Scenario, r.Seed, kills)
		}
	}
}

// writeJSON writes the results for programs, and the directory they are in.
func writeJSON(path string, results []*result) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
