package controlapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/worktally/worktally/server/catalog"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

// What a client reads of a workspace and of an agent, with the types on which it
// insists.
type (
	readWorkspace struct {
		ID          uuid.UUID `json:"id"`
		Name        string    `json:"name"`
		OwnerName   string    `json:"owner_name"`
		Outdated    bool      `json:"outdated"`
		TTL         *int64    `json:"ttl_ms"`
		LatestBuild struct {
			ID                uuid.UUID  `json:"id"`
			Transition        string     `json:"transition"`
			Status            string     `json:"status"`
			TemplateVersionID uuid.UUID  `json:"template_version_id"`
			Deadline          *time.Time `json:"deadline"`
			Job               struct {
				Status      string     `json:"status"`
				CreatedAt   time.Time  `json:"created_at"`
				CompletedAt *time.Time `json:"completed_at"`
			} `json:"job"`
			Resources []struct {
				Agents []readAgent `json:"agents"`
			} `json:"resources"`
		} `json:"latest_build"`
	}
	readAgent struct {
		ID               uuid.UUID     `json:"id"`
		ParentID         uuid.NullUUID `json:"parent_id"`
		Name             string        `json:"name"`
		Status           string        `json:"status"`
		LifecycleState   string        `json:"lifecycle_state"`
		Version          string        `json:"version"`
		CreatedAt        time.Time     `json:"created_at"`
		FirstConnectedAt *time.Time    `json:"first_connected_at"`
		LastConnectedAt  *time.Time    `json:"last_connected_at"`
		DisconnectedAt   *time.Time    `json:"disconnected_at"`
		StartedAt        *time.Time    `json:"started_at"`
		ReadyAt          *time.Time    `json:"ready_at"`
		Health           struct {
			Healthy bool `json:"healthy"`
		} `json:"health"`
		Scripts []struct {
			ID               uuid.UUID     `json:"id"`
			LogSourceID      uuid.UUID     `json:"log_source_id"`
			StartBlocksLogin bool          `json:"start_blocks_login"`
			Timeout          time.Duration `json:"timeout"`
		} `json:"scripts"`
		LogSources []struct {
			ID          uuid.UUID `json:"id"`
			DisplayName string    `json:"display_name"`
		} `json:"log_sources"`
		Subsystems []string `json:"subsystems"`
	}
)

// stockClient asks like one that knows nothing of us.
type stockClient struct {
	*fixture
	token string
}

// get wants a success and reads it strictly.
func (c stockClient) get(path string, into any) {
	c.t.Helper()
	var text json.RawMessage
	c.do(c.token, http.MethodGet, "/api/v2"+path, "", 200, &text)
	var loose any
	must(c.t, json.Unmarshal(text, &loose))
	noEmptyIDs(c.t, path, loose)
	if err := json.Unmarshal(text, into); err != nil {
		c.t.Fatalf("%s: %v in %s", path, err, text)
	}
}

// noEmptyIDs fails on an id or a time that is an empty string: clients end there.
func noEmptyIDs(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if text, ok := value.(string); ok && text == "" && (key == "id" || strings.HasSuffix(key, "_id") || strings.HasSuffix(key, "_at")) {
				t.Errorf("%s: %s is empty", at, key)
			}
			noEmptyIDs(t, at+"."+key, value)
		}
	case []any:
		for i, value := range v {
			noEmptyIDs(t, fmt.Sprintf("%s[%d]", at, i), value)
		}
	}
}

// demo makes a workspace of ann's whose first agent is connected and ready.
func (f *fixture) demo() catalog.Workspace {
	f.t.Helper()
	var out Applied
	f.do(f.ann, "POST", v1+"/workspaces", document, 201, &out)
	ws, err := f.catalog.Workspace(f.t.Context(), out.Workspace.ID)
	must(f.t, err)
	main, now := ws.Agents[0].ID, time.Now()
	must(f.t, f.catalog.SetConnected(f.t.Context(), main, "2.6", now))
	must(f.t, f.catalog.SetStartup(f.t.Context(), main, "v2.24.0", "/root", []agentpb.Startup_Subsystem{agentpb.Startup_ENVBOX}))
	must(f.t, f.catalog.SetLifecycle(f.t.Context(), main, agentpb.Lifecycle_STARTING, now))
	must(f.t, f.catalog.SetLifecycle(f.t.Context(), main, agentpb.Lifecycle_READY, now))
	ws, err = f.catalog.Workspace(f.t.Context(), ws.ID)
	must(f.t, err)
	return ws
}

// TestClients_Requests asks in the order of client-api.md section 3 and wants of
// each answer what the client does.
func TestClients_Requests(t *testing.T) {
	f := newFixture(t)
	ws := f.demo()
	c := stockClient{f, f.ann}
	var found readWorkspace
	c.get("/appearance", &struct{}{})
	c.get("/users/me/workspace/demo?include_deleted=false", &found)
	b := found.LatestBuild
	if found.ID != ws.ID || b.Transition != "start" || b.Status != "running" || b.Job.CompletedAt == nil || b.Job.Status != "succeeded" || b.ID == uuid.Nil ||
		b.Deadline != nil || found.TTL != nil || len(b.Resources) != 1 || len(b.Resources[0].Agents) != 2 {
		t.Fatalf("workspace %+v", found)
	}
	c.get("/templateversions/"+b.TemplateVersionID.String(), &struct{}{})
	agents := b.Resources[0].Agents
	if agents[0].Name != "main" || agents[1].Name != "side" {
		t.Errorf("agents %+v", agents)
	}
	var a, side readAgent
	c.get("/workspaceagents/"+agents[0].ID.String(), &a)
	if diff := cmp.Diff(agents[0], a); diff != "" {
		t.Errorf("the agent is another (-in the workspace +by itself):\n%s", diff)
	}
	if a.Status != "connected" || a.LifecycleState != "ready" || !a.Health.Healthy || a.FirstConnectedAt == nil || a.StartedAt == nil || a.ReadyAt == nil ||
		a.Version != "v2.24.0" || len(a.Scripts) != 1 || len(a.LogSources) != 1 || a.LogSources[0].ID != a.Scripts[0].LogSourceID || !cmp.Equal(a.Subsystems, []string{"envbox"}) {
		t.Errorf("agent %+v", a)
	}
	c.get("/workspaceagents/"+agents[1].ID.String(), &side)
	if side.Status != "connecting" || side.LifecycleState != "created" || side.FirstConnectedAt != nil || side.Health.Healthy {
		t.Errorf("agent that never came %+v", side)
	}
	var info connectionInfo
	c.get("/workspaceagents/"+agents[0].ID.String()+"/connection", &info)
	var same connectionInfo
	c.get("/workspaceagents/connection", &same)
	if !cmp.Equal(info, same) || info.HostnameSuffix != "test" || !info.DERPForceWebsockets || !info.DisableDirectConnections {
		t.Errorf("connection %+v and %+v", info, same)
	}
	f.do(f.ann, "POST", "/api/v2/workspaces/"+ws.ID.String()+"/usage", `{"agent_id": "`+a.ID.String()+`", "app_name": "ssh"}`, 204, nil)
	f.do(f.ann, "POST", "/api/v2/workspaces/"+ws.ID.String()+"/usage", "", 204, nil)
	f.do(f.ann, "POST", "/api/v2/workspaces/"+ws.ID.String()+"/usage", "{", 400, nil)
	var again readWorkspace
	c.get("/workspaces/"+ws.ID.String(), &again)
	if diff := cmp.Diff(found, again); diff != "" {
		t.Errorf("the workspace is another by id (-by name +by id):\n%s", diff)
	}
	var ssh struct {
		Prefix string            `json:"hostname_prefix"`
		Suffix string            `json:"hostname_suffix"`
		Config map[string]string `json:"ssh_config_options"`
	}
	c.get("/deployment/ssh", &ssh)
	if ssh.Prefix != "coder." || ssh.Suffix != "test" || ssh.Config == nil {
		t.Errorf("ssh %+v", ssh)
	}
}

func TestClients_Login(t *testing.T) {
	f := newFixture(t)
	f.do("", "GET", "/api/v2/users/first", "", 200, nil)
	var key struct{ Key string }
	f.do(f.ann, "POST", "/api/v2/users/me/keys", "", 201, &key)
	f.do(f.bob, "POST", "/api/v2/users/ann/keys", "", 404, nil)
	f.do(f.admin, "POST", "/api/v2/users/ann/keys", "", 403, nil)
	var u struct {
		ID       uuid.UUID
		Username string
		Roles    []struct{ Name string }
	}
	stockClient{f, key.Key}.get("/users/me", &u)
	if u.Username != "ann" || u.ID == uuid.Nil || len(u.Roles) != 0 {
		t.Errorf("user %+v", u)
	}
	stockClient{f, f.ann}.get("/users/ann", &u) // the token of before is still good
	f.do(f.bob, "GET", "/api/v2/users/ann", "", 404, nil)
	f.do(f.bob, "GET", "/api/v2/users/nobody", "", 404, nil)
	stockClient{f, f.admin}.get("/users/ann", &u)
	f.do(f.admin, "GET", "/api/v2/users/nobody", "", 404, nil)
	stockClient{f, f.admin}.get("/users/me", &u)
	if len(u.Roles) != 1 {
		t.Errorf("roles of the administrator %+v", u)
	}
}

func TestClients_List(t *testing.T) {
	f := newFixture(t)
	for _, x := range [][2]string{{f.ann, "demo"}, {f.ann, "other"}, {f.bob, "demo"}} {
		f.do(x[0], "POST", v1+"/workspaces", "name: "+x[1], 201, nil)
	}
	for _, c := range []struct {
		token, query string
		want         []string
		count        int
	}{
		{f.ann, "q=owner:me", []string{"ann/demo", "ann/other"}, 2},
		{f.ann, `limit=1&q=owner:%22me%22`, []string{"ann/demo"}, 2},
		{f.ann, `limit=1&offset=1&q=owner:me`, []string{"ann/other"}, 2},
		{f.ann, `offset=7`, nil, 2},
		{f.ann, "q=", []string{"ann/demo", "ann/other"}, 2},
		{f.ann, "q=name:dem", []string{"ann/demo"}, 1},
		{f.ann, "q=OTHER", []string{"ann/other"}, 1},
		{f.ann, "q=owner:bob", nil, 0},
		{f.ann, "q=bob/demo", nil, 0},
		{f.admin, "q=owner:me", nil, 0},
		{f.admin, "", []string{"ann/demo", "ann/other", "bob/demo"}, 3},
		{f.admin, "q=owner:bob", []string{"bob/demo"}, 1},
	} {
		var list struct {
			Workspaces []readWorkspace
			Count      int
		}
		stockClient{f, c.token}.get("/workspaces?"+c.query, &list)
		var got []string
		for _, ws := range list.Workspaces {
			got = append(got, ws.OwnerName+"/"+ws.Name)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || list.Count != c.count || list.Workspaces == nil {
			t.Errorf("%s: count %d, want %d (-want +got):\n%s", c.query, list.Count, c.count, diff)
		}
	}
	for _, bad := range []string{"q=colour:blue", "q=%22", "limit=x", "offset=-1"} {
		var e wire.Error
		f.do(f.ann, "GET", "/api/v2/workspaces?"+bad, "", 400, &e)
		if len(e.Validations) != 1 {
			t.Errorf("%s: %+v", bad, e)
		}
	}
}

// TestClients_OthersSeeNothing: what is somebody else's answers exactly like what
// does not exist.
func TestClients_OthersSeeNothing(t *testing.T) {
	f := newFixture(t)
	ws := f.demo()
	agent := ws.Agents[0].ID.String()
	for _, c := range []struct{ method, path, mine, none string }{
		{"GET", "/users/ann/workspace/%s", "demo", "nodemo"},
		{"GET", "/workspaces/%s", ws.ID.String(), ""},
		{"GET", "/workspaces/%s/watch", ws.ID.String(), ""},
		{"POST", "/workspaces/%s/usage", ws.ID.String(), ""},
		{"GET", "/workspaceagents/%s", agent, ""},
		{"GET", "/workspaceagents/%s/connection", agent, ""},
		{"GET", "/workspaceagents/%s/logs", agent, ""},
		{"GET", "/workspaceagents/%s/logs?follow", agent, ""},
		{"GET", "/workspaceagents/%s/coordinate?version=2.0", agent, ""},
	} {
		if c.none == "" {
			c.none = uuid.NewString()
		}
		var theirs, none wire.Error
		f.do(f.bob, c.method, "/api/v2"+fmt.Sprintf(c.path, c.mine), "", 404, &theirs)
		f.do(f.bob, c.method, "/api/v2"+fmt.Sprintf(c.path, c.none), "", 404, &none)
		theirs.Detail = strings.ReplaceAll(theirs.Detail, c.mine, c.none)
		if diff := cmp.Diff(none, theirs); diff != "" {
			t.Errorf("%s tells them apart (-what is not there +what is another's):\n%s", c.path, diff)
		}
		f.do("", c.method, "/api/v2"+fmt.Sprintf(c.path, c.mine), "", 401, nil)
		if strings.Contains(c.path, "%s/") || c.none != "nodemo" {
			f.do(f.ann, c.method, "/api/v2"+fmt.Sprintf(c.path, "nonsense"), "", 400, nil)
		}
	}
	var found readWorkspace
	stockClient{f, f.admin}.get("/users/ann/workspace/demo", &found)
	f.do(f.admin, "GET", "/api/v2/users/me/workspace/demo", "", 404, nil)
	for _, path := range []string{"/workspaces", "/workspaceagents/connection", "/deployment/ssh", "/users/me", "/templateversions/" + uuid.NewString()} {
		f.do("", "GET", "/api/v2"+path, "", 401, nil)
	}
	f.do(f.ann, "GET", "/api/v2/templateversions/x", "", 400, nil)
	f.do(f.ann, "GET", "/api/v2/entitlements", "", 404, nil)
	f.do(f.ann, "GET", "/api/v0/anything", "", 404, nil)
}

// TestRelayMap_BothForms: read as a client does, the JSON map says what the map on
// the wire says.
func TestRelayMap_BothForms(t *testing.T) {
	m := fullMap()
	text, err := json.Marshal(asRelayMap(m))
	must(t, err)
	var in struct {
		HomeParams *struct{ RegionScore map[int64]float64 }
		Regions    map[int64]*struct {
			EmbeddedRelay          bool
			RegionID               int64
			RegionCode, RegionName string
			Avoid                  bool
			Nodes                  []*struct {
				Name                                   string
				RegionID                               int64
				HostName, CertName, IPv4, IPv6         string
				STUNPort                               int32
				STUNOnly                               bool
				DERPPort                               int32
				InsecureForTests, ForceHTTP, CanPort80 bool
				STUNTestIP                             string
			}
		}
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	must(t, dec.Decode(&in))
	if in.HomeParams == nil {
		t.Fatal("no home params")
	}
	got := &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{RegionScore: in.HomeParams.RegionScore}, Regions: map[int64]*tailnetpb.DERPMap_Region{}}
	for id, r := range in.Regions {
		region := &tailnetpb.DERPMap_Region{RegionId: r.RegionID, EmbeddedRelay: r.EmbeddedRelay, RegionCode: r.RegionCode, RegionName: r.RegionName, Avoid: r.Avoid}
		for _, n := range r.Nodes {
			region.Nodes = append(region.Nodes, &tailnetpb.DERPMap_Region_Node{
				Name: n.Name, RegionId: n.RegionID, HostName: n.HostName, CertName: n.CertName, Ipv4: n.IPv4, Ipv6: n.IPv6, StunPort: n.STUNPort,
				StunOnly: n.STUNOnly, DerpPort: n.DERPPort, InsecureForTests: n.InsecureForTests, ForceHttp: n.ForceHTTP, StunTestIp: n.STUNTestIP, CanPort_80: n.CanPort80,
			})
		}
		got.Regions[id] = region
	}
	if diff := cmp.Diff(m, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-wire +JSON):\n%s", diff)
	}
	allSet(t, m.Regions[999])
	allSet(t, m.Regions[999].Nodes[0])
	if keys := `"EmbeddedRelay":true`; !strings.Contains(string(text), keys) {
		t.Errorf("no %s in %s", keys, text)
	}
}

// allSet fails if a field is not set, so that a new one is not forgotten.
func allSet(t *testing.T, m proto.Message) {
	t.Helper()
	r := m.ProtoReflect()
	for i := range r.Descriptor().Fields().Len() {
		if f := r.Descriptor().Fields().Get(i); !r.Has(f) {
			t.Errorf("%s is not compared", f.FullName())
		}
	}
}

// fullMap is a relay map in which every field says something.
func fullMap() *tailnetpb.DERPMap {
	return &tailnetpb.DERPMap{
		HomeParams: &tailnetpb.DERPMap_HomeParams{RegionScore: map[int64]float64{999: 1.5}},
		Regions: map[int64]*tailnetpb.DERPMap_Region{999: {
			RegionId: 999, EmbeddedRelay: true, RegionCode: "r", RegionName: "R", Avoid: true,
			Nodes: []*tailnetpb.DERPMap_Region_Node{{
				Name: "999b", RegionId: 999, HostName: "relay.example.com", CertName: "c", Ipv4: "192.0.2.1", Ipv6: "2001:db8::1", StunPort: -1,
				StunOnly: true, DerpPort: 8080, InsecureForTests: true, ForceHttp: true, StunTestIp: "192.0.2.2", CanPort_80: true,
			}},
		}, 7: {RegionId: 7, Nodes: []*tailnetpb.DERPMap_Region_Node{{Name: "7a", RegionId: 7}}}},
	}
}

// serve serves the API over the network.
func (f *fixture) serve() string {
	f.t.Helper()
	s := httptest.NewServer(f.handler)
	f.t.Cleanup(func() { f.handler.Close(); s.Close() })
	return s.URL
}

// TestClients_AddedLogSources: what programs in the workspace added is shown with
// the sources of scripts.
func TestClients_AddedLogSources(t *testing.T) {
	f := newFixture(t)
	var applied Applied
	f.do(f.ann, "POST", v1+"/workspaces", "name: w\nagents: [{name: main}]", 201, &applied)
	agent := applied.Workspace.Agents[0].ID
	source := catalog.LogSource{ID: uuid.New(), DisplayName: "Mine", Icon: "/i.png"}
	_, err := f.catalog.AddLogSource(t.Context(), agent, source)
	must(t, err)
	var got clientAgent
	f.do(f.ann, "GET", "/api/v2/workspaceagents/"+agent.String(), "", 200, &got)
	if len(got.LogSources) != 1 || got.LogSources[0].ID != source.ID || got.LogSources[0].DisplayName != "Mine" || got.LogSources[0].CreatedAt.IsZero() {
		t.Errorf("sources: %+v", got.LogSources)
	}
	f.do("", "GET", "/latency-check", "", 200, nil)
}
