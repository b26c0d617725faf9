package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// row is one limit with what was measured.
type row struct {
	name, what, unit string
	target           float64
	// peer is the best figure measured with the stock agent, "" in the table if
	// there is none; it was measured once, elsewhere.
	peer     float64
	value    float64
	measured bool
}

// The rows, by their names in the JSON.
const (
	binarySize   = "binary_size"
	idleRSS      = "idle_rss"
	idleCPU      = "idle_cpu"
	goroutines   = "idle_goroutines"
	trafficRSS   = "rss_after_traffic"
	downCPU      = "ssh_direct_down_cpu_per_gib"
	downRatio    = "ssh_direct_down_cpu_to_sshd"
	upCPU        = "ssh_direct_up_cpu_per_gib"
	relayCPU     = "ssh_relay_down_cpu_per_gib"
	startToReady = "start_to_ready"
	startToPage  = "start_to_first_scrape"
)

// limits are the rows to fill. Lower is better in all of them.
func limits() []row {
	return []row{
		{name: binarySize, what: "agent binary, stripped", unit: "MB", target: 20, peer: 55.9},
		{name: idleRSS, what: "idle on the tailnet: memory", unit: "MB", target: 28, peer: 55},
		{name: idleCPU, what: "idle on the tailnet: CPU", unit: "% of a core", target: 0.05, peer: 0.15},
		{name: goroutines, what: "idle on the tailnet: goroutines", unit: "", target: 60, peer: 82},
		{name: trafficRSS, what: "memory after the traffic", unit: "MB", target: 80, peer: 68},
		{name: downCPU, what: "CPU of SSH, direct, down", unit: "s/GiB", target: 6.5, peer: 16},
		{name: downRatio, what: "the same, as a multiple of sshd", unit: "x", target: 6},
		{name: upCPU, what: "CPU of SSH, direct, up", unit: "s/GiB", target: 9, peer: 14},
		{name: relayCPU, what: "CPU of SSH, relay, down", unit: "s/GiB", target: 24, peer: 27},
		{name: startToReady, what: "start to ready", unit: "ms", target: 100, peer: 119},
		{name: startToPage, what: "start to first scrape", unit: "ms", target: 30, peer: 27},
	}
}

func set(rows []row, name string, value float64) {
	i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
	rows[i].value, rows[i].measured = value, true
}

func writeTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tVALUE\tUNIT\tTARGET\tBETTER\tSTOCK AGENT\t")
	for _, r := range rows {
		value, peer, verdict := "-", "-", "not measured"
		if r.peer > 0 {
			peer = fmt.Sprintf("%.4g", r.peer)
		}
		if r.measured {
			value, verdict = fmt.Sprintf("%.3g", r.value), "met"
			if r.value > r.target {
				verdict = "NOT MET"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t<= %g\tlower\t%s\t%s\n", r.what, value, r.unit, r.target, peer, verdict)
	}
	_ = t.Flush() // nobody is left to tell
}

// entry is a row in the JSON. A value or a peer that is not known is null.
type entry struct {
	Value  *float64 `json:"value"`
	Unit   string   `json:"unit"`
	Target float64  `json:"target"`
	Better string   `json:"better"`
	Peer   *float64 `json:"peer"`
}

func writeJSON(path string, rows []row) error {
	all := make(map[string]entry)
	for _, r := range rows {
		e := entry{Unit: r.unit, Target: r.target, Better: "lower"}
		if r.measured {
			e.Value = &r.value
		}
		if r.peer > 0 {
			e.Peer = &r.peer
		}
		all[r.name] = e
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

func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
