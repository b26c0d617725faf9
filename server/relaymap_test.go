package server

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/wire/agentpb"
)

// TestRelayMap_LikeTheRecorded: the default map is that of the recorded server.
func TestRelayMap_LikeTheRecorded(t *testing.T) {
	recorded := new(agentpb.Manifest)
	if err := proto.Unmarshal(vectors.Read(t, "rpc/003-GetManifest-response.pb"), recorded); err != nil {
		t.Fatal(err)
	}
	m, err := relayMap(&url.URL{Scheme: "http", Host: "127.0.0.1:3000"}, Relays{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(recorded.GetDerpMap(), m(), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRelayMap_Options(t *testing.T) {
	access := &url.URL{Scheme: "https", Host: "worktally.example.com"}
	file := filepath.Join(t.TempDir(), "relays.good.json")
	text := `{"Regions":{"5":{"RegionID":5,"RegionCode":"x","RegionName":"X","Nodes":[{"Name":"5a","RegionID":5,"HostName":"relay.example.com"},{"Name":"5s","RegionID":5,"HostName":"relay.example.com","STUNOnly":true}]}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := relayMap(access, Relays{STUN: []string{"stun.example.com:3478"}, ConfigFile: file})
	if err != nil {
		t.Fatal(err)
	}
	got := m()
	if len(got.Regions) != 3 || got.Regions[1000].Nodes[0].StunPort != 3478 || got.Regions[999].Nodes[0].DerpPort != 443 || got.Regions[999].Nodes[0].ForceHttp {
		t.Errorf("%v", got)
	}
	blocked, err := relayMap(access, Relays{STUN: []string{"stun.example.com:3478"}, ConfigFile: file, BlockDirect: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := blocked(); len(got.Regions) != 2 || len(got.Regions[5].Nodes) != 1 || got.Regions[5].Nodes[0].StunPort != -1 {
		t.Errorf("blocked: %v", got)
	}
	for want, r := range map[string]Relays{
		"no relay":  {Disable: true},
		"no relay:": {Disable: true, STUN: []string{"stun.example.com:3478"}},
		"region -1": {RegionID: -1},
		"region 65": {RegionID: 65535, STUN: []string{"stun.example.com:3478"}},
		"port":      {STUN: []string{"stun.example.com:x"}},
		"no such":   {ConfigFile: file + "x"},
		"STUN serv": {STUN: []string{"stun"}},
	} {
		if _, err := relayMap(access, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestRelayMap_TakenNumbers: nobody's region disappears silently.
func TestRelayMap_TakenNumbers(t *testing.T) {
	access := &url.URL{Scheme: "https", Host: "worktally.example.com"}
	file := filepath.Join(t.TempDir(), "relays.json")
	text := `{"Regions":{"1000":{"RegionID":1000,"RegionCode":"x","RegionName":"X","Nodes":[{"Name":"1000a","RegionID":1000,"HostName":"relay.example.com"}]}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]Relays{
		"the server's own": {ConfigFile: file, RegionID: 1000},
		"a STUN server's":  {ConfigFile: file, RegionID: 999, STUN: []string{"stun.example.com:3478"}},
	} {
		if _, err := relayMap(access, r); err == nil || !strings.Contains(err.Error(), "region 1000") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
