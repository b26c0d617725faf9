package wiretest

import (
	"context"
	"errors"
	"fmt"
	"path"
	"reflect"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"storj.io/drpc"

	"github.com/worktally/worktally/wire/agentpb"
)

// Call is one recorded request.
type Call struct {
	// Session is the number of the session it came over, from 1.
	Session int
	// Name is the rpc without its service: "GetManifest".
	Name    string
	Request proto.Message
	At      time.Time
}

// Fault is what goes wrong with a call.
type Fault int

// The faults.
const (
	None Fault = iota
	// CutBefore ends the connection; the call has no effect.
	CutBefore
	// LoseReply ends the connection after the call had its effect.
	LoseReply
)

// errCut is what a call returns whose connection was cut.
var errCut = errors.New("the connection was cut")

// Handler answers a call.
type Handler func(ctx context.Context, request proto.Message) (proto.Message, error)

// method is an rpc of the Agent service.
type method struct {
	enc               drpc.Encoding
	request, response reflect.Type
}

// Service answers the calls of any number of sessions and records them. Its
// methods are safe for concurrent use.
type Service struct {
	// Ledger takes in the reports, unless UpdateStats is answered by On.
	Ledger  *Ledger
	methods map[string]method

	// mu guards everything below.
	mu       sync.Mutex
	handlers map[string]Handler
	fault    func(Call) Fault
	calls    []Call
	sessions int
	changed  chan struct{}
}

// NewService returns a service that answers every call with success, and
// GetManifest with m.
func NewService(m *agentpb.Manifest) *Service {
	s := &Service{Ledger: NewLedger(), methods: make(map[string]method), handlers: make(map[string]Handler), changed: make(chan struct{})}
	var d agentpb.DRPCAgentDescription
	for i := range d.NumMethods() {
		rpc, enc, _, f, _ := d.Method(i)
		t := reflect.TypeOf(f) // func(DRPCAgentServer, context.Context, *Request) (*Response, error)
		s.methods[rpc] = method{enc: enc, request: t.In(2).Elem(), response: t.Out(0).Elem()}
	}
	On(s, func(context.Context, *agentpb.GetManifestRequest) (*agentpb.Manifest, error) {
		return proto.Clone(m).(*agentpb.Manifest), nil
	})
	On(s, func(_ context.Context, r *agentpb.UpdateLifecycleRequest) (*agentpb.Lifecycle, error) {
		return r.GetLifecycle(), nil
	})
	On(s, func(_ context.Context, r *agentpb.UpdateStartupRequest) (*agentpb.Startup, error) {
		return r.GetStartup(), nil
	})
	On(s, func(context.Context, *agentpb.GetResourcesMonitoringConfigurationRequest) (*agentpb.GetResourcesMonitoringConfigurationResponse, error) {
		return &agentpb.GetResourcesMonitoringConfigurationResponse{
			Config: &agentpb.GetResourcesMonitoringConfigurationResponse_Config{NumDatapoints: 20, CollectionIntervalSeconds: 10},
		}, nil
	})
	On(s, s.Ledger.UpdateStats)
	return s
}

// On lets f answer the rpc whose request is a Q, from now on.
func On[Q, R proto.Message](s *Service, f func(context.Context, Q) (R, error)) {
	for rpc, m := range s.methods {
		if m.request == reflect.TypeFor[Q]().Elem() {
			s.handle(path.Base(rpc), func(ctx context.Context, request proto.Message) (proto.Message, error) {
				return f(ctx, request.(Q))
			})
			return
		}
	}
	panic("BUG: wiretest: no rpc has a request of type " + reflect.TypeFor[Q]().String())
}

func (s *Service) handle(name string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[name] = h
}

// SetFault lets f decide what goes wrong with each call; nil means nothing.
func (s *Service) SetFault(f func(Call) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// newSession returns the number of the next session.
func (s *Service) newSession() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	s.signalLocked()
	return s.sessions
}

func (s *Service) signalLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// answer records a call and answers it. cut says that the connection must end.
func (s *Service) answer(ctx context.Context, session int, rpc string, request proto.Message) (response proto.Message, cut bool, err error) {
	m, ok := s.methods[rpc]
	if !ok {
		return nil, false, fmt.Errorf("unknown rpc: %q", rpc)
	}
	call := s.record(Call{Session: session, Name: path.Base(rpc), Request: request})
	s.mu.Lock()
	handler, fault := s.handlers[call.Name], None
	if s.fault != nil {
		fault = s.fault(call)
	}
	s.mu.Unlock()
	if fault == CutBefore {
		return nil, true, errCut
	}
	response = reflect.New(m.response).Interface().(proto.Message)
	if handler != nil {
		response, err = handler(ctx, request)
	}
	if fault == LoseReply {
		return nil, true, errCut
	}
	return response, false, err
}

// record keeps a request and returns it with its time.
func (s *Service) record(c Call) Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.At = time.Now()
	s.calls = append(s.calls, c)
	s.signalLocked()
	return c
}

// Calls returns the recorded requests, oldest first: those of the given names,
// or all.
func (s *Service) Calls(names ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return selectCalls(s.calls, names)
}

func selectCalls(calls []Call, names []string) []Call {
	var selected []Call
	for _, c := range calls {
		wanted := len(names) == 0
		for _, n := range names {
			wanted = wanted || c.Name == n
		}
		if wanted {
			selected = append(selected, c)
		}
	}
	return selected
}

// Sessions returns how many sessions there were.
func (s *Service) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// waitLimit bounds every wait for something that a peer should do.
const waitLimit = time.Minute

// Wait waits until the condition, which looks at the service, holds.
func (s *Service) Wait(t testing.TB, what string, condition func() bool) {
	t.Helper()
	limit := time.NewTimer(waitLimit)
	defer limit.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if condition() {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			names := ""
			for _, c := range s.Calls() {
				names += fmt.Sprintf(" %d:%s", c.Session, c.Name)
			}
			t.Fatalf("waiting for %s; the calls so far:%s", what, names)
		}
	}
}

// WaitCalls waits until there are n calls of the name, and returns all of them.
func (s *Service) WaitCalls(t testing.TB, name string, n int) []Call {
	t.Helper()
	s.Wait(t, fmt.Sprintf("%d calls of %s", n, name), func() bool { return len(s.Calls(name)) >= n })
	return s.Calls(name)
}

// Requests returns the recorded requests of type Q.
func Requests[Q proto.Message](s *Service) []Q {
	var requests []Q
	for _, c := range s.Calls() {
		if q, ok := c.Request.(Q); ok {
			requests = append(requests, q)
		}
	}
	return requests
}
