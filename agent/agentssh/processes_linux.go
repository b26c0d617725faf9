package agentssh

import (
	"strconv"
	"strings"

	"github.com/prometheus/procfs"

	"github.com/worktally/worktally/agent/stats"
)

const (
	// tcpListen is the state of a listening socket in /proc/net/tcp.
	tcpListen = 0x0A
	// unixListens is the flag of a listening socket in /proc/net/unix.
	unixListens = 1 << 16
)

// whoListens goes from the target to the inode of its socket, and from there to
// the process that has it open. What may not be read (other users' processes)
// or has just ended is passed over.
func whoListens(root string, t target) stats.ForwardFacts {
	fs, err := procfs.NewFS(root)
	if err != nil {
		return stats.ForwardFacts{}
	}
	sockets := make(map[string]bool)
	if t.path != "" {
		unixSockets(fs, t.path, sockets)
	} else {
		tcpSockets(fs, t.port, sockets)
	}
	if len(sockets) == 0 {
		return stats.ForwardFacts{}
	}
	procs, err := fs.AllProcs()
	if err != nil {
		return stats.ForwardFacts{}
	}
	for _, p := range procs {
		if !hasOpen(p, sockets) {
			continue
		}
		args, _ := p.CmdLine()
		exe, _ := p.Executable()
		if len(args) > 0 || exe != "" {
			return stats.ForwardFacts{CommandLine: strings.Join(args, " "), Executable: exe}
		}
	}
	return stats.ForwardFacts{}
}

func tcpSockets(fs procfs.FS, port uint16, sockets map[string]bool) {
	for _, table := range []func() (procfs.NetTCP, error){fs.NetTCP, fs.NetTCP6} {
		lines, err := table()
		if err != nil {
			continue
		}
		for _, l := range lines {
			if l.St == tcpListen && l.LocalPort == uint64(port) {
				sockets[socketName(l.Inode)] = true
			}
		}
	}
}

func unixSockets(fs procfs.FS, path string, sockets map[string]bool) {
	table, err := fs.NetUNIX()
	if err != nil {
		return
	}
	for _, l := range table.Rows {
		if l.Path == path && l.Flags&unixListens != 0 {
			sockets[socketName(l.Inode)] = true
		}
	}
}

// socketName is what a descriptor of a socket links to.
func socketName(inode uint64) string { return "socket:[" + strconv.FormatUint(inode, 10) + "]" }

func hasOpen(p procfs.Proc, sockets map[string]bool) bool {
	targets, err := p.FileDescriptorTargets()
	if err != nil {
		return false
	}
	for _, t := range targets {
		if sockets[t] {
			return true
		}
	}
	return false
}
