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
const memoryLimit = 86 << 20

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

// plainRelayKnob makes the library speak to relays without TLS, in the whole
// process.
const plainRelayKnob = "TS_DEBUG_USE_DERP_HTTP"

// PreferPlainRelays makes nodes speak to relays without TLS by themselves. It is
// for programs whose server is reached over plain HTTP, so that its relay is, too;
// without it a node needs a TLS server of its own between library and relay, which
// costs a quarter more CPU there. Relays with TLS still work, and are then the
// ones with something between. Call it after PrepareProcess and before New.
func PreferPlainRelays() { envknob.Setenv(plainRelayKnob, "true") }
