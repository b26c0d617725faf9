package wiretest

import (
	"context"
	"path"
	"reflect"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/internal/vectors"
)

const agentService = "/coder.agent.v2.Agent/"

// Recorded returns the recorded messages of the Agent service of one role
// ("request" or "response"), by rpc name, in the order in which the calls were
// opened.
func Recorded(t testing.TB, role string) map[string][]proto.Message {
	t.Helper()
	s := NewService(NewManifest())
	recorded := make(map[string][]proto.Message)
	for _, e := range vectors.Index(t) {
		m, ok := s.methods[e.RPC]
		if !ok || !strings.HasPrefix(e.RPC, agentService) || e.Role != role {
			continue
		}
		typ := m.request
		if role == "response" {
			typ = m.response
		}
		message := reflect.New(typ).Interface().(proto.Message)
		if err := proto.Unmarshal(vectors.Read(t, "rpc/"+e.File), message); err != nil {
			t.Fatal(err)
		}
		recorded[path.Base(e.RPC)] = append(recorded[path.Base(e.RPC)], message)
	}
	return recorded
}

// Replay lets the service answer each rpc as the recorded server did: the first
// call with the first response, and so on; the last one is repeated.
func (s *Service) Replay(t testing.TB) {
	t.Helper()
	for name, responses := range Recorded(t, "response") {
		var mu sync.Mutex
		s.handle(name, func(context.Context, proto.Message) (proto.Message, error) {
			mu.Lock()
			defer mu.Unlock()
			response := responses[0]
			if len(responses) > 1 {
				responses = responses[1:]
			}
			return proto.Clone(response), nil
		})
	}
}
