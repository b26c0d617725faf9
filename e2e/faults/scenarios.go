package main

import "time"

// scenarios are all there are. Those that take longest come first.
func scenarios() []scenario {
	list := []scenario{
		{name: "agent-kill", run: agentKill, seeded: true},
		// Reports are so rare that what is kept are checkpoints between them.
		{name: "agent-kill-checkpoint", run: agentKill, seeded: true, interval: 20 * time.Second},
		{name: "clock-agent", run: clockAgent, clock: true},
		{name: "clock-server", run: clockServer, clock: true},
		{name: "clock-ends", run: clockEnds, clock: true},
		{name: "both-kill", run: bothKill, seeded: true},
		{name: "server-kill", run: serverKill, seeded: true},
		{name: "agent-stop", run: agentStop},
		{name: "dead-server", run: deadServer},
		{name: "lost-reply", run: lostReply},
		{name: "rebuild", run: rebuild},
		{name: "disk-full", run: diskFull, root: true},
		{name: "disk-unwritable", run: diskUnwritable},
		{name: "hostile", run: hostile},
		{name: "hostile-ssh", run: hostileSSH},
	}
	list = append(list, links()...)
	return append(list,
		scenario{name: "stopped-agent", run: stoppedAgent, long: true},
		scenario{name: "stopped-server", run: stoppedServer, long: true},
		scenario{name: "no-descriptors", run: noDescriptors, long: true},
		scenario{name: "half-open", run: halfOpen, long: true, alone: true},
		scenario{name: "crowd", run: crowd, long: true, alone: true, limit: 20 * time.Minute},
	)
}
