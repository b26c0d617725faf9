// Package agentscripts runs the scripts of a workspace: start scripts in
// parallel after the first manifest, stop scripts in parallel at the end, cron
// scripts in between (contract agent-api.md section 6.3).
//
// Each run has a process group of its own, a log file, a data directory and a
// timing. Every output line goes to the log file and to the Sink, bounded in
// length and in rate. Whatever is wrong with one script (schedule, shell, log
// file, flood, a pipe that a background child keeps open) is one clear error of
// that script; the others run.
//
// A Runner owns its processes and goroutines: Close ends and awaits them.
package agentscripts
