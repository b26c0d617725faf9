package agentscripts

import (
	"time"

	"github.com/google/uuid"

	"github.com/worktally/worktally/agent/stats"
)

// Script is one script of the manifest.
type Script struct {
	ID          uuid.UUID
	LogSourceID uuid.UUID
	DisplayName string
	// LogPath is the log file: "~" and environment variables are expanded, a
	// relative path is below the log directory, "" is a name made of LogSourceID.
	LogPath string
	// Script is the text that the command builder turns into a command.
	Script string
	// Cron is the schedule (ParseSchedule), "" for none.
	Cron             string
	RunOnStart       bool
	RunOnStop        bool
	StartBlocksLogin bool
	// Timeout ends a run; 0 or less means no limit.
	Timeout time.Duration
}

// name is how log lines and errors call the script.
func (s Script) name() string {
	if s.DisplayName != "" {
		return s.DisplayName
	}
	return s.ID.String()
}

// Timing is one ended run, as the server wants to know it. Start is never after
// End, even if the clock was set back meanwhile.
type Timing struct {
	ScriptID   uuid.UUID
	Start, End time.Time
	// ExitCode is that of the process, 255 if there is none.
	ExitCode int32
	Stage    stats.Stage
	// Status is one of the four of the wire; a script that could not be started
	// is an exit failure there.
	Status stats.ScriptStatus
}
