// Package exitcode has the exit codes of our programs.
package exitcode

// The codes.
const (
	OK     = 0
	Failed = 1
	Usage  = 2 // the command line or a variable is wrong
)
