package agentapps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/worktally/worktally/agent/agentexec"
	"github.com/worktally/worktally/wire/agentpb"
)

// MetadataAPI is the part of the Agent service that Metadata needs.
type MetadataAPI interface {
	BatchUpdateMetadata(context.Context, *agentpb.BatchUpdateMetadataRequest) (*agentpb.BatchUpdateMetadataResponse, error)
}

// Commands builds the commands; *agentexec.Builder is one.
type Commands interface {
	Command(ctx context.Context, r agentexec.Request) (*exec.Cmd, error)
}

// MetadataOptions of a Metadata.
type MetadataOptions struct {
	// Log may be nil.
	Log *slog.Logger
	// Commands is required.
	Commands Commands
	// MaxRunning bounds the commands that run at a time; others wait for a later
	// tick. 0 means 16.
	MaxRunning int
}

// Metadata collects the values of the metadata items and reports them. Create it
// with NewMetadata.
type Metadata struct {
	log      *slog.Logger
	commands Commands
	slots    chan struct{}

	// mu guards the fields below.
	mu    sync.Mutex
	items []*item
}

// NewMetadata checks the options and starts nothing.
func NewMetadata(o MetadataOptions) (*Metadata, error) {
	if o.Commands == nil {
		return nil, errors.New("metadata needs a command builder")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxRunning <= 0 {
		o.MaxRunning = 16
	}
	return &Metadata{log: o.Log, commands: o.Commands, slots: make(chan struct{}, o.MaxRunning)}, nil
}

// Update replaces the items by those of a manifest, for the next Run. An unchanged item keeps its
// place in its interval; a key that comes back after it was gone, or that means
// something else now, is collected afresh.
func (m *Metadata) Update(descriptions []*agentpb.WorkspaceAgentMetadata_Description) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make(map[string]*item, len(m.items))
	for _, it := range m.items {
		known[it.description.GetKey()] = it
	}
	m.items = nil
	seen := make(map[string]bool, len(descriptions))
	for _, d := range descriptions {
		if seen[d.GetKey()] {
			m.log.Warn("metadata item ignored: its key was used before", "key", d.GetKey())
			continue
		}
		seen[d.GetKey()] = true
		it := known[d.GetKey()]
		if it == nil || !proto.Equal(it.description, d) {
			it = &item{description: d}
		}
		m.items = append(m.items, it)
	}
}

// Run collects and reports until ctx ends (nil) or a report fails; then what was
// not told stays for the next session. It returns at once if there are no items.
func (m *Metadata) Run(ctx context.Context, api MetadataAPI) error {
	m.mu.Lock()
	none := len(m.items) == 0
	m.mu.Unlock()
	if none {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	reported := make(chan error, 1)
	reporting := false
	for {
		m.collectDue(ctx, &work)
		if batch := m.pending(); !reporting && len(batch) > 0 {
			reporting = true
			work.Go(func() { reported <- m.report(ctx, api, batch) })
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-reported:
			reporting = false
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("report metadata: %w", err)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		case <-tick.C:
		}
	}
}

// collectDue starts the collection of what is due, as far as there are slots.
func (m *Metadata) collectDue(ctx context.Context, work *sync.WaitGroup) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, it := range m.items {
		if !it.due(now) {
			continue
		}
		select {
		case m.slots <- struct{}{}:
		default:
			return
		}
		it.running = true
		work.Go(func() {
			r := collect(ctx, m.commands, it.description.GetScript(), it.timeout())
			r.at = now
			<-m.slots
			m.mu.Lock()
			defer m.mu.Unlock()
			it.running = false
			if ctx.Err() == nil { // else the session's end may have spoilt it
				it.collected, it.pending = now, &r
			}
		})
	}
}

// news is a result that is to be told.
type news struct {
	it *item
	r  *result
}

// maxBatchBytes keeps a report well below what a message may have; what does not
// fit goes with the next.
const maxBatchBytes = 1 << 20

// pending returns what is to be told, in the order of the manifest.
func (m *Metadata) pending() []news {
	m.mu.Lock()
	defer m.mu.Unlock()
	var batch []news
	size := 0
	for _, it := range m.items {
		if it.pending == nil {
			continue
		}
		size += len(it.description.GetKey()) + len(it.pending.value) + len(it.pending.error)
		if size > maxBatchBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, news{it, it.pending})
	}
	return batch
}

func (m *Metadata) report(ctx context.Context, api MetadataAPI, batch []news) error {
	req := &agentpb.BatchUpdateMetadataRequest{}
	for _, n := range batch {
		it, r := n.it, n.r
		req.Metadata = append(req.Metadata, &agentpb.Metadata{
			Key: it.description.GetKey(),
			Result: &agentpb.WorkspaceAgentMetadata_Result{
				CollectedAt: timestamppb.New(r.at),
				Age:         int64(time.Since(r.at).Seconds()),
				Value:       r.value,
				Error:       r.error,
			},
		})
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := api.BatchUpdateMetadata(ctx, req); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range batch {
		if n.it.pending == n.r { // not collected again meanwhile
			n.it.pending = nil
		}
	}
	return nil
}
