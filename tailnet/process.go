package tailnet

import (
	"os"
	"runtime/debug"
	"strings"

	"tailscale.com/envknob"
	"tailscale.com/net/netns"
)

// memoryLimit bounds the heap: every packet in flight sits in a 64 KiB buffer,
// and pools are otherwise unbounded.
const memoryLimit = 64 << 20

// PrepareProcess does what concerns the whole process and is therefore left to
// programs: variables of the environment that steer the library are removed, the
// node's sockets are left to the system's routing, and memory is limited unless
// GOMEMLIMIT says otherwise.
func PrepareProcess() {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "TS_") {
			_ = os.Unsetenv(name)
		}
	}
	netns.SetEnabled(false)
	envknob.SetNoLogsNoSupport()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
