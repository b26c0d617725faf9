// Package agentnet is what an agent serves on the tailnet besides SSH and
// terminals: an HTTP API for people's tools, a speed test, and every other port
// of the workspace's loopback (contract tailnet.md sections 4, 7 and 8).
package agentnet
