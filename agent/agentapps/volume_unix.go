//go:build linux || darwin

package agentapps

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// volumeUsage returns the use of the file system that holds the path.
func volumeUsage(path string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Usage{}, fmt.Errorf("measure volume %s: %w", path, err)
	}
	block := int64(st.Bsize)
	return Usage{Used: int64(st.Blocks-st.Bfree) * block, Total: int64(st.Blocks) * block}, nil
}
