package reportclient

import (
	"slices"
	"sync"
	"time"
)

// defaultRecords is 7 days of windows of 30 s.
const defaultRecords = 7 * 24 * 120

// MemoryOutbox is an Outbox that lives as long as the process.
type MemoryOutbox struct {
	limit int

	mu      sync.Mutex
	records []*Record // oldest first
}

// NewMemoryOutbox returns an empty outbox for at most limit records; 0 means 7
// days of windows of 30 s.
func NewMemoryOutbox(limit int) *MemoryOutbox {
	if limit <= 0 {
		limit = defaultRecords
	}
	return &MemoryOutbox{limit: limit}
}

var _ Outbox = (*MemoryOutbox)(nil)

// Append implements Outbox.
func (m *MemoryOutbox) Append(r *Record) (dropped int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, old := range m.records {
		if old.Epoch == r.Epoch && old.Totals != nil {
			// A sender may hold the old one: replace, never change.
			history := *old
			history.Totals = nil
			m.records[i] = &history
		}
	}
	m.records = append(m.records, r)
	for len(m.records) > m.limit {
		oldest := slices.IndexFunc(m.records, func(r *Record) bool { return r.Totals == nil })
		if oldest < 0 {
			break // nothing but totals is left
		}
		m.records = slices.Delete(m.records, oldest, oldest+1)
		dropped++
	}
	return dropped, nil
}

// Pending implements Outbox.
func (m *MemoryOutbox) Pending(history int) []*Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	var pending []*Record
	for _, r := range slices.Backward(m.records) {
		if r.Totals != nil {
			pending = append(pending, r)
		}
	}
	for _, r := range m.records {
		if history == 0 {
			break
		}
		if r.Totals == nil {
			pending = append(pending, r)
			history--
		}
	}
	return pending
}

// Acknowledge implements Outbox.
func (m *MemoryOutbox) Acknowledge(ids []RecordID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make(map[RecordID]struct{}, len(ids))
	for _, id := range ids {
		known[id] = struct{}{}
	}
	m.records = slices.DeleteFunc(m.records, func(r *Record) bool {
		_, ok := known[r.ID()]
		return ok
	})
	return nil
}

// State implements Outbox.
func (m *MemoryOutbox) State() (records int, oldest time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.records) == 0 {
		return 0, time.Time{}
	}
	return len(m.records), m.records[0].End
}
