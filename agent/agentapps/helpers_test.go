package agentapps

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/worktally/worktally/internal/testtool"
	"github.com/worktally/worktally/wire/agentpb"
)

func TestMain(m *testing.M) { testtool.Main(m) }

var errTest = errors.New("server says no")

// server answers all calls of this package and keeps the requests.
type server struct {
	mu       sync.Mutex
	health   []*agentpb.BatchUpdateAppHealthRequest
	metadata []*agentpb.BatchUpdateMetadataRequest
	usage    []*agentpb.PushResourcesMonitoringUsageRequest
	config   *agentpb.GetResourcesMonitoringConfigurationResponse
	asked    int
	err      error
	// hold, if not nil, keeps metadata requests until it is closed.
	hold chan struct{}
}

func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *server) BatchUpdateAppHealths(_ context.Context, r *agentpb.BatchUpdateAppHealthRequest) (*agentpb.BatchUpdateAppHealthResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = append(s.health, proto.CloneOf(r))
	return &agentpb.BatchUpdateAppHealthResponse{}, s.err
}

func (s *server) BatchUpdateMetadata(ctx context.Context, r *agentpb.BatchUpdateMetadataRequest) (*agentpb.BatchUpdateMetadataResponse, error) {
	s.mu.Lock()
	s.metadata = append(s.metadata, proto.CloneOf(r))
	hold, err := s.hold, s.err
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &agentpb.BatchUpdateMetadataResponse{}, err
}

func (s *server) GetResourcesMonitoringConfiguration(context.Context, *agentpb.GetResourcesMonitoringConfigurationRequest) (*agentpb.GetResourcesMonitoringConfigurationResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.config, s.err
}

func (s *server) PushResourcesMonitoringUsage(_ context.Context, r *agentpb.PushResourcesMonitoringUsageRequest) (*agentpb.PushResourcesMonitoringUsageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.usage = append(s.usage, proto.CloneOf(r))
	return &agentpb.PushResourcesMonitoringUsageResponse{}, s.err
}

func (s *server) healthReports() []*agentpb.BatchUpdateAppHealthRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*agentpb.BatchUpdateAppHealthRequest(nil), s.health...)
}

func (s *server) metadataReports() []*agentpb.BatchUpdateMetadataRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*agentpb.BatchUpdateMetadataRequest(nil), s.metadata...)
}

func (s *server) pushes() []*agentpb.PushResourcesMonitoringUsageRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*agentpb.PushResourcesMonitoringUsageRequest(nil), s.usage...)
}

// recorded reads a recorded message.
func recorded[M proto.Message](t *testing.T, name string, m M) M {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "vectors", "rpc", name+".pb"))
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func diff(want, got any, ignore ...cmp.Option) string {
	return cmp.Diff(want, got, append(ignore, protocmp.Transform())...)
}

func newLog() (*slog.Logger, *testtool.Buffer) {
	b := &testtool.Buffer{}
	return slog.New(slog.NewTextHandler(b, nil)), b
}
