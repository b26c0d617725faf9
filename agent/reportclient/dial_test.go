package reportclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/worktally/worktally/internal/vectors"
	"github.com/worktally/worktally/wire"
	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/wiretest"
)

func TestNew_NamesEveryMistake(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"access URL":                     func(o *Options) { o.URL = &url.URL{Scheme: "ftp", Host: "x"} },
		`access URL "http:///a"`:         func(o *Options) { o.URL = &url.URL{Scheme: "http", Path: "/a"} },
		"Token, Tally, OnManifest":       func(o *Options) { o.Token = nil },
		"OnManifest and Version are req": func(o *Options) { o.Version = "" },
	} {
		o := Options{URL: serverURL(), Token: func(context.Context) (string, error) { return "", nil }, Version: "v1"}
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDial_BothTokenTransports(t *testing.T) {
	for name, from := range map[string]func(*http.Request) string{
		"cookie": func(r *http.Request) string {
			c, err := r.Cookie(wire.TokenCookie)
			if err != nil {
				return ""
			}
			return c.Value
		},
		"header": func(r *http.Request) string { return r.Header.Get(wire.TokenHeader) },
	} {
		t.Run(name, func(t *testing.T) {
			s := wiretest.Start(t, wiretest.Options{TokenFrom: from})
			connect(t, s, func(o *Options) {
				o.Header = func(context.Context) (http.Header, error) { return http.Header{"X-Proxy": {"a", "b"}}, nil }
			})
			s.WaitCalls(t, "UpdateStartup", 1)
			r := s.Requests()[0]
			if got := r.URL.Query(); got.Get("role") != "agent" || got.Get("version") != "2.4" {
				t.Errorf("query %v", got)
			}
			if got := r.Header.Values("X-Proxy"); len(got) != 2 {
				t.Errorf("extra headers %q", got)
			}
			if r.Header.Get("Sec-Websocket-Protocol")+r.Header.Get("Sec-Websocket-Extensions") != "" {
				t.Errorf("the upgrade offers more than the contract has: %v", r.Header)
			}
		})
	}
}

// TestDial_AsksLikeTheRecordedAgent compares the upgrade with the recorded one.
func TestDial_AsksLikeTheRecordedAgent(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{Token: "00000000-0000-0000-0000-000000000000"})
	connect(t, s, func(o *Options) {
		o.Token = func(context.Context) (string, error) { return "00000000-0000-0000-0000-000000000000", nil }
	})
	s.WaitCalls(t, "GetManifest", 1)
	ours := s.Requests()[0]
	head := string(vectors.Read(t, "http/rpc-request-head.txt"))
	line, rest, _ := strings.Cut(head, "\r\n")
	if want := strings.Fields(line)[1]; !strings.HasPrefix(want, ours.URL.Path+"?") {
		t.Errorf("recorded %s, ours %s", want, ours.URL)
	}
	for field := range strings.SplitSeq(strings.TrimSpace(rest), "\r\n") {
		key, value, _ := strings.Cut(field, ": ")
		switch key {
		case "Host", "Sec-Websocket-Key": // differ by nature
		case "Accept-Encoding": // is not part of an upgrade
		default:
			if got := ours.Header.Get(key); got != value {
				t.Errorf("%s: recorded %q, ours %q", key, value, got)
			}
		}
	}
}

func TestDial_ErrorTexts(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for _, tc := range []struct {
		name, want string
		handler    http.HandlerFunc
	}{
		{"refused token", "401 Unauthorized: Workspace agent not authorized. (a detail)", answer(401, "application/json; charset=utf-8", `{"message":"Workspace agent not authorized.","detail":"a detail"}`)},
		{"refused version", "400 Bad Request: Unknown or unsupported API version; version: server is at version 2.1, behind requested minor version 2.4", answer(400, "application/json", `{"message":"Unknown or unsupported API version","validations":[{"field":"version","detail":"server is at version 2.1, behind requested minor version 2.4"}]}`)},
		{"a proxy's page", "502 Bad Gateway", answer(502, "text/html", "<html>")},
		{"JSON that is none", "500 Internal Server Error", answer(500, "application/json", `{"message":`)},
		{"a huge body", "500 Internal Server Error", answer(500, "application/json", strings.Repeat("x", 1<<20))},
		{"no upgrade", "200 OK", answer(200, "text/plain", "hello")},
		{"an upgrade to something else", "upgrade", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Upgrade", "derp")
			w.WriteHeader(http.StatusSwitchingProtocols)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := httptest.NewServer(tc.handler)
			defer s.Close()
			u, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			c := newClient(t, func(o *Options) { o.URL, o.HTTPClient = u, s.Client() })
			conn, err := c.dial(t.Context())
			if err == nil {
				conn.Close()
				t.Fatal("the session is open")
			}
			text := err.Error()
			if !strings.Contains(strings.ToLower(text), strings.ToLower(tc.want)) || !strings.HasPrefix(text, "open session with "+s.URL+"/api/v2/workspaceagents/me/rpc: ") {
				t.Errorf("error = %s", text)
			}
			if strings.Contains(text, wiretest.Token) || len(text) > 5000 {
				t.Errorf("the error has %d bytes, or tells the token", len(text))
			}
		})
	}
}

func TestDial_SourcesThatFail(t *testing.T) {
	boom := errors.New("boom")
	for want, change := range map[string]func(*Options){
		"agent token: boom":   func(o *Options) { o.Token = func(context.Context) (string, error) { return "", boom } },
		"extra headers: boom": func(o *Options) { o.Header = func(context.Context) (http.Header, error) { return nil, boom } },
	} {
		if _, err := newClient(t, change).dial(t.Context()); err == nil || err.Error() != want || !errors.Is(err, boom) {
			t.Errorf("error = %v, want %s", err, want)
		}
	}
	c := newClient(t, func(o *Options) { o.Header = func(context.Context) (http.Header, error) { return nil, nil } })
	if h, err := c.header(t.Context()); err != nil || h.Get(wire.TokenHeader) != wiretest.Token {
		t.Errorf("without extra headers: %v, %v", h, err)
	}
}

// TestDial_TokenStaysHome: a redirect to another host gets neither form of it.
func TestDial_TokenStaysHome(t *testing.T) {
	got := make(chan http.Header, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Clone() }))
	defer other.Close()
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusFound)
	}))
	defer home.Close()
	u, err := url.Parse(home.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, func(o *Options) { o.URL, o.HTTPClient = u, home.Client() })
	if _, err := c.dial(t.Context()); err == nil {
		t.Error("no error")
	}
	select {
	case h := <-got:
		if strings.Contains(fmt.Sprint(h), wiretest.Token) {
			t.Errorf("the token went along: %v", h)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the redirect was not followed")
	}
}

func TestSession_RefusedTokenAndVersion(t *testing.T) {
	for name, o := range map[string]wiretest.Options{
		"token":   {Token: "another"},
		"version": {Version: wire.Version{Major: 2, Minor: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			var log logBuffer
			s := wiretest.Start(t, o)
			c, stop := connect(t, s, func(o *Options) { o.Log = log.logger() })
			deadline := time.Now().Add(time.Minute)
			for c.Health().DialErrors < 3 {
				if time.Now().After(deadline) {
					t.Fatal("no status is permanent, but the agent has given up")
				}
				time.Sleep(time.Millisecond)
			}
			stop()
			if h := c.Health(); h.Connected || h.Sessions != 0 {
				t.Errorf("health %+v", h)
			}
			if strings.Count(log.String(), "session with the server failed") != 1 {
				t.Errorf("a lasting failure is logged once a minute:\n%s", log.String())
			}
		})
	}
}

func TestSession_StartupAndBanners(t *testing.T) {
	s := wiretest.Start(t, wiretest.Options{})
	wiretest.On(s.Service, func(context.Context, *agentpb.GetAnnouncementBannersRequest) (*agentpb.GetAnnouncementBannersResponse, error) {
		return &agentpb.GetAnnouncementBannersResponse{AnnouncementBanners: []*agentpb.BannerConfig{{Enabled: true, Message: "hello"}}}, nil
	})
	c, _ := connect(t, s, func(o *Options) {
		o.MetricsAddress = func() string { return "127.0.0.1:2112" }
		o.Subsystems = []agentpb.Startup_Subsystem{agentpb.Startup_ENVBOX}
	})
	startup := s.WaitCalls(t, "UpdateStartup", 1)[0].Request.(*agentpb.UpdateStartupRequest).GetStartup()
	if startup.GetVersion() != "v1.2.3" || startup.GetExpandedDirectory() != "/home/coder/project" ||
		startup.GetWorktally().GetMetricsAddress() != "127.0.0.1:2112" || len(startup.GetSubsystems()) != 1 {
		t.Errorf("startup %v", startup)
	}
	s.WaitCalls(t, "GetAnnouncementBanners", 1)
	deadline := time.Now().Add(time.Minute)
	for len(c.Banners()) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no banners")
		}
		time.Sleep(time.Millisecond)
	}
}
