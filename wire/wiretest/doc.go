// Package wiretest is the other end of the wire for tests of the agent's side: a
// server that behaves. It checks tokens and versions, answers every call of the
// Agent service from functions or from the recorded vectors, holds the streams
// of the Tailnet service for an agent without peers, keeps the books of
// cumulative reports as a Worktally server does, records every request in order,
// and can be slow, answer errors, or cut the connection before or after it has
// done what was asked.
//
// A Service is the part without a network. Server puts it behind HTTP; Conn
// connects a caller directly, for tests in a synctest bubble.
package wiretest
