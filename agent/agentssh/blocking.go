package agentssh

import (
	"path"
	"strings"
)

// transfersFiles says whether the job is one of the known ways to copy files. It
// keeps honest people from it, not clever ones.
func transfersFiles(j job) bool {
	if j.subsystem == "sftp" {
		return true
	}
	words := strings.Fields(j.command)
	if len(words) == 0 {
		return false
	}
	switch path.Base(words[0]) {
	case "nc", "rsync", "scp", "sftp":
		return true
	}
	return false
}
