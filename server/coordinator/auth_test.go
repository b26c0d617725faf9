package coordinator

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/tailnetpb"
)

func announce(addresses, allowed []string) *tailnetpb.CoordinateRequest {
	return &tailnetpb.CoordinateRequest{UpdateSelf: &tailnetpb.CoordinateRequest_UpdateSelf{
		Node: &tailnetpb.Node{Addresses: addresses, AllowedIps: allowed},
	}}
}

// TestAuth is contract agent-api.md section 5.4, over the stream.
func TestAuth(t *testing.T) {
	agent := uuid.MustParse("11111111-2222-3333-4444-555555555555")
	const a, b = "fd7a:115c:a1e0:3333:4444:5555:5555:5555/128", "fd60:627a:a42b:3333:4444:5555:5555:5555/128"
	both := []string{a, b}
	asAgent, asClient := AgentAuth{agent}, ClientAuth{AgentID: agent}
	for _, c := range []struct {
		name string
		auth Auth
		r    *tailnetpb.CoordinateRequest
		want string // in the error, "" if it is allowed
	}{
		{"an agent's own addresses", asAgent, announce(both, both), ""},
		{"an agent without addresses", asAgent, announce(nil, nil), ""},
		{"an agent's legacy address", asAgent, announce([]string{"fd7a:115c:a1e0:49d6:b259:b7ac:b1b2:48f4/128"}, nil), ""},
		{"an agent's foreign address", asAgent, announce([]string{"fd7a:115c:a1e0:3333:4444:5555:5555:5556/128"}, nil), "is not the agent's"},
		{"an agent's foreign route", asAgent, announce(both, []string{a, "fd7a:115c:a1e0:3333:4444:5555:5555:5556/128"}), "is not the agent's"},
		{"an agent's wide route", asAgent, announce(both, []string{"::/0"}), "is not a single one"},
		{"an agent's net", asAgent, announce([]string{"fd7a:115c:a1e0:3333:4444:5555:5555:5555/127"}, nil), "is not a single one"},
		{"an IPv4 address", asAgent, announce([]string{"10.0.0.1/32"}, nil), "is not a single one"},
		{"no address at all", asAgent, announce([]string{"x"}, nil), `address "x"`},
		{"an address without length", asAgent, announce([]string{strings.TrimSuffix(a, "/128")}, nil), "address"},
		{"an address with a zone", asAgent, announce([]string{"fe80::1%eth0/128"}, nil), "address"},
		{"an agent's tunnel", asAgent, add(uuid.New()), "agents may not open tunnels"},
		{"an agent's malformed tunnel", asAgent, &tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{}}, "agents may not open tunnels"},
		{"a client's tunnel to the agent", asClient, add(agent), ""},
		{"a client's tunnel to another", asClient, add(uuid.New()), "no tunnel to"},
		{"a client's address", asClient, announce([]string{"fd7a:115c:a1e0:1::1/128"}, []string{"fd7a:115c:a1e0:1::1/128"}), ""},
		{"a client without an address", asClient, announce(nil, nil), "not one and the same"},
		{"a client with two addresses", asClient, announce([]string{"fd7a:115c:a1e0:1::1/128", "fd7a:115c:a1e0:1::2/128"}, []string{"fd7a:115c:a1e0:1::1/128", "fd7a:115c:a1e0:1::2/128"}), "not one and the same"},
		{"a client's other route", asClient, announce([]string{"fd7a:115c:a1e0:1::1/128"}, []string{"fd7a:115c:a1e0:1::2/128"}), "not one and the same"},
		{"a client's silent route", asClient, announce([]string{"fd7a:115c:a1e0:1::1/128"}, nil), "not one and the same"},
		{"a client's address elsewhere", asClient, announce([]string{"fd60:627a:a42b:1::1/128"}, []string{"fd60:627a:a42b:1::1/128"}), "is not one that clients have"},
		{"a client's public address", asClient, announce([]string{"2001:db8::1/128"}, []string{"2001:db8::1/128"}), "is not one that clients have"},
		{"a client's net", asClient, announce([]string{"fd7a:115c:a1e0:1::1/64"}, nil), "is not a single one"},
		{"a client with the agent's address", asClient, announce(nil, []string{b}), "is the agent's"},
		{"a client's handshake", asClient, ready(agent), "clients may not send ready_for_handshake"},
		{"a client's goodbye", asClient, disconnect(), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.auth.Check(c.r)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("err = %v, want %q", err, c.want)
			}
			if c.want == "" {
				return
			}
			coord := newCoordinator(t)
			p := join(t, coord, uuid.New(), c.auth)
			witness := join(t, coord, named(0xee), anyone{})
			witness.send(add(p.id))
			witness.quiet()
			p.send(c.r)
			p.want("error: authorization: "+err.Error(), "closed")
			witness.quiet() // nothing of what was refused was passed on
			if coord.c.get(reasonUnauthorized) != 1 {
				t.Errorf("counted %d", coord.c.get(reasonUnauthorized))
			}
		})
	}
	t.Run("a client's malformed tunnel", func(t *testing.T) {
		p := join(t, newCoordinator(t), uuid.New(), asClient)
		p.send(&tailnetpb.CoordinateRequest{AddTunnel: &tailnetpb.CoordinateRequest_Tunnel{Id: []byte("x")}})
		p.want("error: add_tunnel.id has 1 bytes, not 16", "closed")
	})
}

func TestFill(t *testing.T) {
	c := newCoordinator(t)
	b := exposition.NewTable().NewBuilder(exposition.Names{})
	c.Fill(b)
	if err := b.Add("worktally_coordinator_rejected_total", 1, exposition.Label{Name: "reason", Value: reasonQueueFull}); err == nil {
		t.Error("the reason was not there before it happened")
	}
}

// FuzzAgentAuth checks that nothing but the agent's own addresses passes.
func FuzzAgentAuth(f *testing.F) {
	agent := uuid.MustParse("11111111-2222-3333-4444-555555555555")
	for _, s := range []string{"fd7a:115c:a1e0:3333:4444:5555:5555:5555/128", "::/0", "1.2.3.4/32", "", "fe80::1%x/128", "fd60:627a:a42b:3333:4444:5555:5555:5555/128"} {
		f.Add(s)
	}
	own := map[string]bool{
		"fd7a:115c:a1e0:3333:4444:5555:5555:5555": true, "fd60:627a:a42b:3333:4444:5555:5555:5555": true, legacyAgentAddress: true,
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := (AgentAuth{agent}).Check(announce(nil, []string{s}))
		text, _ := strings.CutSuffix(strings.ToLower(s), "/128")
		if err == nil && !own[text] && !strings.Contains(s, ":") {
			t.Fatalf("%q passed", s)
		}
		if own[s[:max(0, len(s)-4)]] && strings.HasSuffix(s, "/128") && err != nil {
			t.Fatalf("%q was refused: %v", s, err)
		}
	})
}

// FuzzCoordinate gives any bytes to the state machine as a request. No peer may
// be told of another without a tunnel.
func FuzzCoordinate(f *testing.F) {
	agent := uuid.New()
	for _, r := range []*tailnetpb.CoordinateRequest{self(1), add(agent), remove(agent), ready(agent, uuid.Nil), disconnect(), announce([]string{"x"}, nil)} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, asAgent bool) {
		var r tailnetpb.CoordinateRequest
		if proto.Unmarshal(b, &r) != nil || len(r.ReadyForHandshake) > responseQueue {
			return
		}
		c := New(Options{})
		defer c.Close()
		var auth Auth = ClientAuth{AgentID: agent}
		if asAgent {
			auth = AgentAuth{agent}
		}
		bystander, _ := c.join(uuid.New(), anyone{}, nil)
		p, _ := c.join(uuid.New(), auth, func(error) {})
		if err := c.handle(p, &r); err != nil {
			c.leave(p, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost", err.Error())
		}
		if len(bystander.out) != 0 {
			t.Fatal("a peer without a tunnel was told something")
		}
	})
}
