package agentapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"storj.io/drpc/drpcmux"

	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/server/agentapi"
	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/server/coordinator"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// recordedCatalog holds what a recorded manifest says and takes everything in
// that is about it.
type recordedCatalog struct {
	agentapi.Catalog
	id catalog.Identity

	mu                                                              sync.Mutex
	health, metadata, lines, timings, connections, usage, lifecycle int
	startup                                                         string
}

func (c *recordedCatalog) count(n *int, by int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	*n += by
	return nil
}

func (c *recordedCatalog) AgentByToken(context.Context, string) (catalog.Identity, error) {
	return c.id, nil
}
func (c *recordedCatalog) SetConnected(context.Context, uuid.UUID, string, time.Time) error {
	return nil
}
func (c *recordedCatalog) Heartbeat(context.Context, []uuid.UUID, time.Time) error       { return nil }
func (c *recordedCatalog) SetDisconnected(context.Context, []uuid.UUID, time.Time) error { return nil }
func (c *recordedCatalog) SetStartup(_ context.Context, _ uuid.UUID, version, _ string, _ []agentpb.Startup_Subsystem) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.startup = version
	return nil
}
func (c *recordedCatalog) SetLifecycle(context.Context, uuid.UUID, agentpb.Lifecycle_State, time.Time) error {
	return c.count(&c.lifecycle, 1)
}
func (c *recordedCatalog) SetAppHealth(_ context.Context, _ uuid.UUID, updates []catalog.AppHealth) error {
	for _, u := range updates {
		if !slices.ContainsFunc(c.id.Agent.Spec.Apps, func(a catalog.App) bool { return a.ID == u.AppID && a.Healthcheck.URL != "" }) {
			return catalog.ErrNotFound
		}
	}
	return c.count(&c.health, len(updates))
}
func (c *recordedCatalog) SetMetadata(_ context.Context, _ uuid.UUID, v []catalog.MetadataValue) error {
	return c.count(&c.metadata, len(v))
}
func (c *recordedCatalog) AppendLogs(_ context.Context, _ uuid.UUID, lines []catalog.LogLine) (bool, error) {
	return false, c.count(&c.lines, len(lines))
}
func (c *recordedCatalog) AddScriptTiming(context.Context, uuid.UUID, catalog.ScriptTiming) error {
	return c.count(&c.timings, 1)
}
func (c *recordedCatalog) AddConnection(context.Context, uuid.UUID, catalog.Connection) error {
	return c.count(&c.connections, 1)
}
func (c *recordedCatalog) SetResourcesUsage(context.Context, uuid.UUID, *agentpb.PushResourcesMonitoringUsageRequest_Datapoint) error {
	return c.count(&c.usage, 1)
}

// identityOf turns a recorded manifest back into what our catalog would hold.
func identityOf(m *agentpb.Manifest, r *agentpb.GetResourcesMonitoringConfigurationResponse) catalog.Identity {
	spec := catalog.AgentSpec{Name: m.AgentName, Directory: m.Directory, MOTDFile: m.MotdPath, Environment: m.EnvironmentVariables}
	for _, s := range m.Scripts {
		spec.Scripts = append(spec.Scripts, catalog.Script{
			ID: uuid.UUID(s.Id), LogSourceID: uuid.UUID(s.LogSourceId), Name: s.DisplayName, Text: s.Script, Cron: s.Cron, LogPath: s.LogPath,
			RunOnStart: s.RunOnStart, RunOnStop: s.RunOnStop, StartBlocksLogin: s.StartBlocksLogin, Timeout: s.Timeout.AsDuration(),
		})
	}
	for _, a := range m.Apps {
		spec.Apps = append(spec.Apps, catalog.App{
			ID: uuid.UUID(a.Id), Slug: a.Slug, DisplayName: a.DisplayName, URL: a.Url, Command: a.Command, Icon: a.Icon,
			External: a.External, Hidden: a.Hidden, Share: a.SharingLevel,
			Healthcheck: catalog.Healthcheck{URL: a.Healthcheck.Url, Interval: a.Healthcheck.Interval.AsDuration(), Threshold: a.Healthcheck.Threshold},
		})
	}
	for _, d := range m.Metadata {
		spec.Metadata = append(spec.Metadata, catalog.Metadata{
			Key: d.Key, DisplayName: d.DisplayName, Script: d.Script,
			Interval: d.Interval.AsDuration() * time.Second, Timeout: d.Timeout.AsDuration() * time.Second,
		})
	}
	spec.Resources.Memory = r.GetMemory().GetEnabled()
	for _, v := range r.GetVolumes() {
		spec.Resources.Volumes = append(spec.Resources.Volumes, v.Path)
	}
	return catalog.Identity{
		Agent:     catalog.Agent{ID: uuid.UUID(m.AgentId), Name: m.AgentName, Spec: spec},
		Workspace: catalog.Workspace{ID: uuid.UUID(m.WorkspaceId), Name: m.WorkspaceName},
		Owner:     catalog.User{ID: uuid.New(), Username: m.OwnerUsername},
	}
}

// recording is one recorded session.
type recording struct {
	toServer, toAgent []byte
	asked, answered   map[uint32][]vectors.Packet
	chunks            []chunk
}

type chunk struct {
	Direction      string
	Offset, Length int
}

func readRecording(t *testing.T, prefix, timeline string) *recording {
	t.Helper()
	r := &recording{toServer: vectors.Read(t, prefix+"agent-to-server.bin"), toAgent: vectors.Read(t, prefix+"server-to-agent.bin")}
	var err error
	r.asked, err = vectors.Streams(r.toServer)
	must(t, err)
	r.answered, err = vectors.Streams(r.toAgent)
	must(t, err)
	for line := range bytes.Lines(vectors.Read(t, timeline)) {
		var c chunk
		must(t, json.Unmarshal(line, &c))
		r.chunks = append(r.chunks, c)
	}
	return r
}

// rpc returns the path of the call on a stream, and its methods' messages.
func (r *recording) rpc(stream uint32) string { return string(r.asked[stream][0].Data) }

// answer decodes the only answer to the only call of an rpc.
func (r *recording) answer(t *testing.T, rpc string, m proto.Message) {
	t.Helper()
	for id := range r.asked {
		if r.rpc(id) == "/coder.agent.v2.Agent/"+rpc {
			must(t, proto.Unmarshal(r.answered[id][0].Data, m))
			return
		}
	}
	t.Fatalf("no call of %s", rpc)
}

// anyone is what the server's own connections may do: everything.
type anyone struct{}

func (anyone) Check(*tailnetpb.CoordinateRequest) error { return nil }

// others are the peers on the far side of a recorded Coordinate stream.
type others struct {
	t     *testing.T
	c     *coordinator.Coordinator
	agent uuid.UUID
	open  map[uuid.UUID]tailnetpb.DRPCTailnet_CoordinateClient
	// ready are closed when the agent said that it is ready for the peer.
	ready map[uuid.UUID]chan struct{}
}

func (o *others) join(id uuid.UUID, requests ...*tailnetpb.CoordinateRequest) {
	o.t.Helper()
	ours, theirs := net.Pipe()
	mux := drpcmux.New()
	ctx, cancel := context.WithCancelCause(context.Background())
	must(o.t, tailnetpb.DRPCRegisterTailnet(mux, o.c.Peer(id, anyone{}, cancel)))
	var serving sync.WaitGroup
	serving.Go(func() { _ = wire.Serve(ctx, theirs, mux, wire.ServeOptions{}) })
	client, err := wire.NewClient(ours)
	must(o.t, err)
	o.t.Cleanup(func() { _ = client.Close(); cancel(nil); serving.Wait() })
	stream, err := tailnetpb.NewDRPCTailnetClient(client).Coordinate(context.Background())
	must(o.t, err)
	ready := make(chan struct{})
	o.open[id], o.ready[id] = stream, ready
	serving.Go(func() {
		for told := false; ; {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			for _, u := range r.PeerUpdates {
				if u.Kind == tailnetpb.CoordinateResponse_PeerUpdate_READY_FOR_HANDSHAKE && !told {
					close(ready)
					told = true
				}
			}
		}
	})
	for _, r := range requests {
		must(o.t, stream.Send(r))
	}
}

// cause does what made the recorded server send a response to the agent, either
// before the agent came or later.
func (o *others) cause(r *tailnetpb.CoordinateResponse, before bool) {
	o.t.Helper()
	for _, u := range r.PeerUpdates {
		id := uuid.UUID(u.Id)
		tunnel := &tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{Id: o.agent[:]}}
		self := &tailnetpb.CoordinateRequest{UpdateSelf: &tailnetpb.CoordinateRequest_UpdateSelf{Node: u.Node}}
		switch {
		case (u.Reason == "init") != before:
		case u.Kind == tailnetpb.CoordinateResponse_PeerUpdate_DISCONNECTED:
			// In the recording the agent had said so before; here it came another way.
			select {
			case <-o.ready[id]:
			case <-time.After(time.Minute):
				o.t.Fatalf("peer %s was not told that the agent is ready", id)
			}
			must(o.t, o.open[id].Send(&tailnetpb.CoordinateRequest{Disconnect: &tailnetpb.CoordinateRequest_Disconnect{}}))
		case u.Reason == "node update" && o.open[id] == nil:
			o.join(id, tunnel, self)
		case u.Reason == "node update":
			must(o.t, o.open[id].Send(self))
		default: // "add tunnel", or "init" before the agent came
			o.join(id, self, tunnel)
		}
	}
}

// TestReplay_RecordedSessions sends what an unmodified agent sent, and compares
// every answer of ours with the recorded one.
func TestReplay_RecordedSessions(t *testing.T) {
	for _, c := range []struct{ name, prefix, timeline string }{
		{"main", "session-", "timeline.jsonl"},
		{"cut off", "reconnect/first-", "reconnect/first-timeline.jsonl"},
		{"reconnected", "reconnect/second-", "reconnect/second-timeline.jsonl"},
	} {
		t.Run(c.name, func(t *testing.T) { replay(t, readRecording(t, c.prefix, c.timeline)) })
	}
}

func replay(t *testing.T, r *recording) {
	var m agentpb.Manifest
	var resources agentpb.GetResourcesMonitoringConfigurationResponse
	r.answer(t, "GetManifest", &m)
	r.answer(t, "GetResourcesMonitoringConfiguration", &resources)
	recorded := &recordedCatalog{id: identityOf(&m, &resources)}
	derp := func() *tailnetpb.DERPMap { return proto.CloneOf(m.DerpMap) }
	far := coordinator.New(coordinator.Options{DERPMap: derp})
	w := newWorld(t, setup{options: func(o *agentapi.Options) {
		o.Catalog, o.ReportInterval, o.DERPMap, o.Tailnet = recorded, 5*time.Second, derp, far.Agent
	}})
	peers := &others{t: t, c: far, agent: recorded.id.Agent.ID, open: make(map[uuid.UUID]tailnetpb.DRPCTailnet_CoordinateClient), ready: make(map[uuid.UUID]chan struct{})}
	// Who was there before the agent came is told to it as a whole.
	for id := range r.answered {
		for _, m := range responses(t, r, id) {
			peers.cause(m, true)
		}
	}
	poll(t, "peers that were there before", func() bool {
		for id := range peers.open {
			if far.Node(id) == nil {
				return false
			}
		}
		return true
	})
	ws, _, err := w.socket(uuid.NewString(), "?version=2.6")
	must(t, err)
	defer ws.CloseNow()
	ws.SetReadLimit(-1)
	got := &received{}
	var reading sync.WaitGroup
	reading.Go(func() { got.read(ws) })
	defer reading.Wait()
	defer ws.CloseNow()

	seen := 0 // bytes of the recorded answers that were due
	for _, c := range r.chunks {
		switch c.Direction {
		case "agent-to-server":
			must(t, ws.Write(t.Context(), websocket.MessageBinary, r.toServer[c.Offset:c.Offset+c.Length]))
		case "server-to-agent":
			before := countMessages(t, r.toAgent[:seen])
			seen = c.Offset + c.Length
			due := countMessages(t, r.toAgent[:seen])
			for id := range due {
				if all := responses(t, r, id); all != nil {
					for _, m := range all[before[id]:due[id]] {
						peers.cause(m, false)
					}
				}
			}
			poll(t, "an answer that was recorded", func() bool {
				have := countMessages(t, got.bytes())
				for id, n := range due {
					if have[id] < n {
						return false
					}
				}
				return true
			})
		}
	}
	compareAnswers(t, r, got.bytes())
	if recorded.startup == "" || recorded.lifecycle == 0 || recorded.connections == 0 {
		t.Errorf("the catalog was not told: %+v", recorded)
	}
	checkReplayedPage(t, w, r)
}

// responses are the messages of a recorded Coordinate stream to the agent.
func responses(t *testing.T, r *recording, stream uint32) []*tailnetpb.CoordinateResponse {
	t.Helper()
	if len(r.asked[stream]) == 0 || r.rpc(stream) != "/coder.tailnet.v2.Tailnet/Coordinate" {
		return nil
	}
	var list []*tailnetpb.CoordinateResponse
	for _, p := range r.answered[stream] {
		if p.Kind == vectors.KindMessage {
			m := &tailnetpb.CoordinateResponse{}
			must(t, proto.Unmarshal(p.Data, m))
			list = append(list, m)
		}
	}
	return list
}

// received are the bytes that our server has sent.
type received struct {
	mu sync.Mutex
	b  []byte
}

func (r *received) read(ws *websocket.Conn) {
	for {
		_, b, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		r.mu.Lock()
		r.b = append(r.b, b...)
		r.mu.Unlock()
	}
}

func (r *received) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.b)
}

// countMessages counts the messages of each stream; the bytes may end anywhere.
func countMessages(t *testing.T, b []byte) map[uint32]int {
	t.Helper()
	frames, _ := vectors.Frames(b)
	data := make(map[uint32][]byte)
	for _, f := range frames {
		data[f.Stream] = append(data[f.Stream], f.Data...)
	}
	n := make(map[uint32]int)
	for id, d := range data {
		packets, _ := vectors.Packets(d)
		for _, p := range packets {
			if p.Kind == vectors.KindMessage || p.Kind == vectors.KindError {
				n[id]++
			}
		}
	}
	return n
}

// compareAnswers compares message by message, stream by stream.
func compareAnswers(t *testing.T, r *recording, ours []byte) {
	t.Helper()
	frames, _ := vectors.Frames(ours)
	data := make(map[uint32][]byte)
	for _, f := range frames {
		data[f.Stream] = append(data[f.Stream], f.Data...)
	}
	compared := 0
	for id := range r.asked {
		rpc := r.rpc(id)
		packets, _ := vectors.Packets(data[id])
		want, got := contents(r.answered[id]), contents(packets)
		if len(want) != len(got) {
			for _, p := range got {
				t.Logf("ours: %.150v", decodeAnswer(t, rpc, p.Data))
			}
			for _, p := range want {
				t.Logf("recorded: %.150v", decodeAnswer(t, rpc, p.Data))
			}
			t.Errorf("stream %d, %s: %d answers, want %d", id, rpc, len(got), len(want))
			continue
		}
		for i := range want {
			if want[i].Kind != got[i].Kind {
				t.Errorf("stream %d, %s: answer %d is a packet of kind %d (%q), want %d", id, rpc, i, got[i].Kind, got[i].Data, want[i].Kind)
				continue
			}
			wantMsg, gotMsg := decodeAnswer(t, rpc, want[i].Data), decodeAnswer(t, rpc, got[i].Data)
			// Ours to add: the extension of the manifest.
			ours := protocmp.IgnoreMessages(&worktallypb.ManifestExtension{})
			order := protocmp.SortRepeated(func(a, b *tailnetpb.CoordinateResponse_PeerUpdate) bool { return bytes.Compare(a.Id, b.Id) < 0 })
			if diff := cmp.Diff(wantMsg, gotMsg, protocmp.Transform(), ours, order); diff != "" {
				t.Errorf("stream %d, %s: answer %d (-recorded +ours):\n%s", id, rpc, i, diff)
			}
			compared++
		}
	}
	if compared == 0 {
		t.Fatal("nothing was compared")
	}
	t.Logf("compared %d answers", compared)
}

func contents(packets []vectors.Packet) []vectors.Packet {
	return slices.DeleteFunc(slices.Clone(packets), func(p vectors.Packet) bool {
		return p.Kind != vectors.KindMessage && p.Kind != vectors.KindError
	})
}

// decodeAnswer decodes the answer of an rpc by the service's descriptor.
func decodeAnswer(t *testing.T, rpc string, data []byte) proto.Message {
	t.Helper()
	name := protoreflect.FullName(bytes.ReplaceAll([]byte(rpc[1:]), []byte("/"), []byte(".")))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	must(t, err)
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.(protoreflect.MethodDescriptor).Output().FullName())
	must(t, err)
	m := mt.New().Interface()
	must(t, proto.Unmarshal(data, m))
	return m
}

// checkReplayedPage adds up the recorded reports by hand and compares them with
// the page.
func checkReplayedPage(t *testing.T, w *world, r *recording) {
	t.Helper()
	var rx, tx int64
	off := false
	for id, packets := range r.asked {
		for _, p := range packets {
			if p.Kind != vectors.KindMessage {
				continue
			}
			switch r.rpc(id) {
			case "/coder.agent.v2.Agent/UpdateStats":
				var m agentpb.UpdateStatsRequest
				must(t, proto.Unmarshal(p.Data, &m))
				rx, tx = rx+m.GetStats().GetRxBytes(), tx+m.GetStats().GetTxBytes()
			case "/coder.agent.v2.Agent/UpdateLifecycle":
				var m agentpb.UpdateLifecycleRequest
				must(t, proto.Unmarshal(p.Data, &m))
				off = off || m.GetLifecycle().GetState() == agentpb.Lifecycle_OFF
			}
		}
	}
	if rx+tx == 0 {
		return // the second session of an idle agent
	}
	page := w.page()
	if _, shown := page[agentSeries("agent_network_receive_bytes_total", r, `path="tailnet"`)]; shown == off {
		t.Errorf("series of the agent shown: %v, its lifecycle is off: %v", shown, off)
	}
	poll(t, "the deployment's totals", func() bool {
		page := w.page()
		return page[`worktally_workspace_bytes_total{direction="receive",path="tailnet"}`] == itoa(rx) &&
			page[`worktally_workspace_bytes_total{direction="transmit",path="tailnet"}`] == itoa(tx)
	})
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// agentSeries is the name of a series of the recorded agent on the page.
func agentSeries(name string, r *recording, labels string) string {
	for id := range r.asked {
		if r.rpc(id) == "/coder.agent.v2.Agent/GetManifest" {
			var m agentpb.Manifest
			if err := proto.Unmarshal(r.answered[id][0].Data, &m); err != nil {
				panic(err)
			}
			return name + `{agent_name="` + m.AgentName + `",username="` + m.OwnerUsername + `",workspace_name="` + m.WorkspaceName + `",` + labels + `}`
		}
	}
	return ""
}
