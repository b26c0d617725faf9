// Package faultnet is a network that fails on demand: an in-process proxy for
// stream connections that cuts, resets, delays, slows down, slices, swallows and
// stalls, and counts what it delivered. With no faults it is a plain counting
// proxy.
//
// What is random (where a connection breaks, how long a slice is) follows from the
// seed, the number of the connection and its direction, so that a seed brings the
// same faults over the same bytes.
//
// A Proxy owns its goroutines: Close ends and waits for all of them. All methods
// may be called concurrently.
package faultnet
