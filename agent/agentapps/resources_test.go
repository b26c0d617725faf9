package agentapps

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/testing/protocmp"
	"storj.io/drpc/drpcerr"

	"github.com/worktally/worktally/wire/agentpb"
)

// tape measures what was recorded: each point in turn, memory first.
type tape struct {
	mu     sync.Mutex
	points []*agentpb.PushResourcesMonitoringUsageRequest_Datapoint
	next   int
}

func (p *tape) memory() (Usage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	m := p.points[p.next-1].Memory
	return Usage{m.Used, m.Total}, nil
}

func (p *tape) volume(path string) (Usage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.points[p.next-1].Volumes {
		if v.Volume == path {
			return Usage{v.Used, v.Total}, nil
		}
	}
	return Usage{}, errors.New("no such volume")
}

// TestResources_AsRecorded measures the recorded values at the recorded pace and
// compares the pushes.
func TestResources_AsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var want []*agentpb.PushResourcesMonitoringUsageRequest
		for _, name := range []string{"037", "038", "039"} {
			want = append(want, recorded(t, name+"-PushResourcesMonitoringUsage-request", &agentpb.PushResourcesMonitoringUsageRequest{}))
		}
		p := &tape{points: append(append(want[0].Datapoints[:20:20], want[1].Datapoints[19]), want[2].Datapoints[19])}
		r := NewResources(ResourcesOptions{Memory: p.memory, Volume: p.volume})
		s := &server{config: recorded(t, "002-GetResourcesMonitoringConfiguration-response", &agentpb.GetResourcesMonitoringConfigurationResponse{})}
		began := time.Now()
		session := func(length time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), length)
			defer cancel()
			if err := r.Run(ctx, s); err != nil {
				t.Error(err)
			}
		}
		session(199 * time.Second)
		if n := len(s.pushes()); n != 0 {
			t.Errorf("%d pushes before the ring was full", n)
		}
		session(31 * time.Second) // points survive the reconnect
		got := s.pushes()
		if d := diff(want, got, protocmp.IgnoreFields(&agentpb.PushResourcesMonitoringUsageRequest_Datapoint{}, "collected_at")); d != "" {
			t.Errorf("pushes (-want +got):\n%s", d)
		}
		for i, d := range got[0].Datapoints[:19] {
			if at := d.CollectedAt.AsTime(); !at.Equal(began.Add(time.Duration(i+1) * 10 * time.Second)) {
				t.Errorf("point %d was collected after %s", i, at.Sub(began))
			}
		}
	})
}

func config(points, seconds int32, volumes ...string) *agentpb.GetResourcesMonitoringConfigurationResponse {
	c := &agentpb.GetResourcesMonitoringConfigurationResponse{
		Config: &agentpb.GetResourcesMonitoringConfigurationResponse_Config{NumDatapoints: points, CollectionIntervalSeconds: seconds},
		Memory: &agentpb.GetResourcesMonitoringConfigurationResponse_Memory{Enabled: true},
	}
	for _, v := range volumes {
		c.Volumes = append(c.Volumes, &agentpb.GetResourcesMonitoringConfigurationResponse_Volume{Enabled: true, Path: v})
	}
	return c
}

func TestResources_ConfigurationsThatMakeNoSense(t *testing.T) {
	tests := []struct {
		name   string
		config *agentpb.GetResourcesMonitoringConfigurationResponse
		want   string
	}{
		{"no answer", nil, "no config"},
		{"no config", &agentpb.GetResourcesMonitoringConfigurationResponse{}, "no config"},
		{"no points", config(0, 10), "num_datapoints is 0"},
		{"negative points", config(-1, 10), "num_datapoints is -1"},
		{"too many points", config(1<<30, 10), "num_datapoints is 1073741824"},
		{"no interval", config(20, 0), "collection_interval_seconds is 0"},
		{"negative interval", config(20, -10), "collection_interval_seconds is -10"},
		{"too many volumes", config(20, 10, make([]string, 1001)...), "1001 volumes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log, text := newLog()
			if err := NewResources(ResourcesOptions{Log: log}).Run(t.Context(), &server{config: tt.config}); err != nil {
				t.Error(err)
			}
			if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, tt.want) {
				t.Errorf("log %q, want one error with %q", got, tt.want)
			}
		})
	}
}

func TestResources_NothingToDo(t *testing.T) {
	off := config(20, 10)
	off.Memory = nil
	off.Volumes = []*agentpb.GetResourcesMonitoringConfigurationResponse_Volume{{Path: "/"}}
	if err := NewResources(ResourcesOptions{}).Run(t.Context(), &server{config: off}); err != nil {
		t.Error(err)
	}
	unknown := &server{err: drpcerr.WithCode(errTest, drpcerr.Unimplemented)}
	if err := NewResources(ResourcesOptions{}).Run(t.Context(), unknown); err != nil {
		t.Error(err)
	}
	if err := NewResources(ResourcesOptions{}).Run(t.Context(), &server{err: errTest}); !errors.Is(err, errTest) {
		t.Errorf("run = %v", err)
	}
}

func TestResources_WhatFailsIsLeftOutAndPushErrorsAreOnlyLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		calls := 0
		log, text := newLog()
		r := NewResources(ResourcesOptions{
			Log:    log,
			Memory: func() (Usage, error) { return Usage{}, errTest },
			Volume: func(path string) (Usage, error) {
				switch path {
				case "/hangs":
					calls++ // one call at a time
					<-release
				case "/fails":
					return Usage{}, errTest
				}
				return Usage{1, 2}, nil
			},
		})
		s := &failingPush{server{config: config(1, 10, "/hangs", "/fails", "/good", "/good")}}
		ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
		defer cancel()
		if err := r.Run(ctx, s); err != nil {
			t.Error(err)
		}
		close(release)
		synctest.Wait()
		pushes := s.pushes()
		if len(pushes) != 4 || calls != 1 {
			t.Fatalf("%d pushes, %d calls for the hanging volume", len(pushes), calls)
		}
		want := &agentpb.PushResourcesMonitoringUsageRequest{Datapoints: []*agentpb.PushResourcesMonitoringUsageRequest_Datapoint{{
			Volumes: []*agentpb.PushResourcesMonitoringUsageRequest_Datapoint_VolumeUsage{{Volume: "/good", Used: 1, Total: 2}},
		}}}
		if d := diff(want, pushes[3], protocmp.IgnoreFields(&agentpb.PushResourcesMonitoringUsageRequest_Datapoint{}, "collected_at")); d != "" {
			t.Errorf("push (-want +got):\n%s", d)
		}
		if got := strings.Count(text.String(), "failed: push resources usage"); got != 1 {
			t.Errorf("the failures were logged %d times", got)
		}
	})
}

// failingPush answers the question but takes no points.
type failingPush struct{ server }

func (s *failingPush) PushResourcesMonitoringUsage(ctx context.Context, r *agentpb.PushResourcesMonitoringUsageRequest) (*agentpb.PushResourcesMonitoringUsageResponse, error) {
	_, _ = s.server.PushResourcesMonitoringUsage(ctx, r)
	return nil, errTest
}

func TestVolumeUsage(t *testing.T) {
	u, err := volumeUsage("/")
	if err != nil || u.Total <= 0 || u.Used < 0 || u.Used > u.Total {
		t.Errorf("usage %+v, %v", u, err)
	}
	if _, err := volumeUsage("/no/such/path"); err == nil {
		t.Error("a path that does not exist was measured")
	}
}
