package agentnet

// The ports of an agent on the tailnet (contract tailnet.md section 4).
const (
	PortSSH         = 1
	PortTerminal    = 2
	PortSpeedtest   = 3
	PortHTTP        = 4
	PortStandardSSH = 22
	// FirstFreePort is the first that is not kept for the agent.
	FirstFreePort = 9
)
