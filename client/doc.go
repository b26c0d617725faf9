// Package client is the people's side of the tailnet: it finds a workspace's
// agent through the server, joins the tailnet as a peer of its own, and reaches
// the agent's SSH, terminals, speed test and ports.
//
// A Conn holds a node and the session with the coordinator; a lost session is
// dialled again and running connections go on. Close ends everything.
package client
