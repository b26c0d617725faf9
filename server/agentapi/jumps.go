package agentapi

import "time"

// jumps tells when the wall clock was changed.
type jumps struct {
	now func() time.Time // the wall clock
	// wall and at are the last reading of it, and when that was.
	wall, at time.Time
}

// smallJump is what a clock may be put right by unnoticed.
const smallJump = time.Second

func newJumps(now func() time.Time) *jumps { return &jumps{now, now().Round(0), time.Now()} }

// read returns the wall clock, and says whether it was changed since the last call.
func (j *jumps) read() (wall time.Time, jumped bool) {
	wall, at := j.now().Round(0), time.Now()
	off := wall.Sub(j.wall) - at.Sub(j.at)
	j.wall, j.at = wall, at
	return wall, off.Abs() > smallJump
}
