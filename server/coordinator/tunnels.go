package coordinator

import (
	"maps"

	"github.com/google/uuid"
)

// maxTunnels bounds the tunnels that one peer may ask for.
const maxTunnels = 1024

// tunnels are the pairs of peers that may know of each other, found from both
// ends. A tunnel leads from the peer that asked for it to the one it wants to
// reach.
type tunnels struct {
	from, to map[uuid.UUID]map[uuid.UUID]struct{}
}

func newTunnels() tunnels {
	return tunnels{make(map[uuid.UUID]map[uuid.UUID]struct{}), make(map[uuid.UUID]map[uuid.UUID]struct{})}
}

func (t tunnels) has(src, dst uuid.UUID) bool {
	_, ok := t.from[src][dst]
	return ok
}

// partners says whether the two share a tunnel in either direction.
func (t tunnels) partners(a, b uuid.UUID) bool { return t.has(a, b) || t.has(b, a) }

// partnersOf are the peers that share a tunnel with id. The set is the caller's.
func (t tunnels) partnersOf(id uuid.UUID) map[uuid.UUID]struct{} {
	set := make(map[uuid.UUID]struct{}, len(t.from[id])+len(t.to[id]))
	maps.Copy(set, t.from[id])
	maps.Copy(set, t.to[id])
	return set
}

// add enters a tunnel; false means that src has too many.
func (t tunnels) add(src, dst uuid.UUID) bool {
	if !t.has(src, dst) && len(t.from[src]) >= maxTunnels {
		return false
	}
	enter(t.from, src, dst)
	enter(t.to, dst, src)
	return true
}

func (t tunnels) remove(src, dst uuid.UUID) {
	leave(t.from, src, dst)
	leave(t.to, dst, src)
}

// removeFrom takes out all tunnels that src asked for.
func (t tunnels) removeFrom(src uuid.UUID) {
	for dst := range t.from[src] {
		leave(t.to, dst, src)
	}
	delete(t.from, src)
}

func enter(m map[uuid.UUID]map[uuid.UUID]struct{}, key, value uuid.UUID) {
	if m[key] == nil {
		m[key] = make(map[uuid.UUID]struct{})
	}
	m[key][value] = struct{}{}
}

func leave(m map[uuid.UUID]map[uuid.UUID]struct{}, key, value uuid.UUID) {
	delete(m[key], value)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}
