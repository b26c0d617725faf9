// Package tailnet is a userspace WireGuard node without a control server: keys,
// addresses, peers and relays come from the Tailnet service of our protocol, and
// TCP ends in a stack of its own, so that it needs no privilege and no device.
//
// A Node listens on ports of its addresses, dials peers, pings them, and counts
// every byte that it exchanges with them. It is built on the engine packages of
// tailscale.com; only this package and tailnet/relay import them.
//
// New starts the node's goroutines and Close ends them. Everything else is safe
// for concurrent use. What concerns the whole process (memory limit, environment)
// happens in PrepareProcess and nowhere else.
package tailnet
