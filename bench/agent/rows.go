package main

import "github.com/worktally/worktally/bench/report"

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

// limits are the rows to fill. The peer is the stock agent, measured once,
// elsewhere.
func limits() report.Rows {
	return report.Rows{
		{Name: binarySize, What: "agent binary, stripped", Unit: "MB", Target: 20, Peer: 55.9},
		{Name: idleRSS, What: "idle on the tailnet: memory", Unit: "MB", Target: 28, Peer: 55},
		{Name: idleCPU, What: "idle on the tailnet: CPU", Unit: "% of a core", Target: 0.05, Peer: 0.15},
		{Name: goroutines, What: "idle on the tailnet: goroutines", Unit: "", Target: 60, Peer: 82},
		{Name: trafficRSS, What: "memory after the traffic", Unit: "MB", Target: 80, Peer: 68},
		{Name: downCPU, What: "CPU of SSH, direct, down", Unit: "s/GiB", Target: 6.5, Peer: 16},
		{Name: downRatio, What: "the same, as a multiple of sshd", Unit: "x", Target: 6},
		{Name: upCPU, What: "CPU of SSH, direct, up", Unit: "s/GiB", Target: 9, Peer: 14},
		{Name: relayCPU, What: "CPU of SSH, relay, down", Unit: "s/GiB", Target: 24, Peer: 27},
		{Name: startToReady, What: "start to ready", Unit: "ms", Target: 100, Peer: 119},
		{Name: startToPage, What: "start to first scrape", Unit: "ms", Target: 30, Peer: 27},
	}
}
