package catalog

import (
	"net/url"
	"time"

	"github.com/worktally/worktally/wire/agentpb"
)

func (w *walker) app(p place) App {
	a := App{Share: agentpb.WorkspaceApp_OWNER}
	before := len(w.problems)
	w.fields(p, map[string]func(place){
		"slug":         func(p place) { w.name(p, &a.Slug) },
		"display_name": func(p place) { w.text(p, maxLine, &a.DisplayName) },
		"url":          func(p place) { w.text(p, maxLine, &a.URL) },
		"command":      func(p place) { w.text(p, maxLine, &a.Command) },
		"icon":         func(p place) { w.text(p, maxLine, &a.Icon) },
		"external":     func(p place) { w.boolean(p, &a.External) },
		"hidden":       func(p place) { w.boolean(p, &a.Hidden) },
		"share":        func(p place) { w.share(p, &a.Share) },
		"healthcheck":  func(p place) { w.healthcheck(p, &a.Healthcheck) },
	})
	if a.Slug == "" && len(w.problems) == before {
		w.fail(p, "the app needs a slug")
	}
	return a
}

func (w *walker) share(p place, to *agentpb.WorkspaceApp_SharingLevel) {
	var v string
	w.text(p, maxLine, &v)
	switch v {
	case "owner":
		*to = agentpb.WorkspaceApp_OWNER
	case "authenticated":
		*to = agentpb.WorkspaceApp_AUTHENTICATED
	case "organization":
		*to = agentpb.WorkspaceApp_ORGANIZATION
	case "public":
		*to = agentpb.WorkspaceApp_PUBLIC
	default:
		w.fail(p, "%q: want owner, authenticated, organization or public", v)
	}
}

func (w *walker) healthcheck(p place, h *Healthcheck) {
	h.Interval, h.Threshold = 10*time.Second, 3
	before := len(w.problems)
	w.fields(p, map[string]func(place){
		"url": func(p place) {
			w.text(p, maxLine, &h.URL)
			if u, err := url.Parse(h.URL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
				w.fail(p, "%q: want a URL that begins with http:// or https://", h.URL)
			}
		},
		"interval":  func(p place) { w.duration(p, time.Second, 24*time.Hour, &h.Interval) },
		"threshold": func(p place) { w.integer(p, 1, 1000, &h.Threshold) },
	})
	if h.URL == "" && len(w.problems) == before {
		w.fail(p, "the health check needs a url")
	}
}

func (w *walker) metadata(p place) Metadata {
	var m Metadata
	before := len(w.problems)
	w.fields(p, map[string]func(place){
		"key":          func(p place) { w.name(p, &m.Key) },
		"display_name": func(p place) { w.text(p, maxLine, &m.DisplayName) },
		"script":       func(p place) { w.text(p, maxScript, &m.Script) },
		"interval":     func(p place) { w.duration(p, time.Second, 30*24*time.Hour, &m.Interval) },
		"timeout":      func(p place) { w.duration(p, time.Second, 24*time.Hour, &m.Timeout) },
	})
	switch {
	case len(w.problems) > before:
	case m.Key == "":
		w.fail(p, "the metadata needs a key")
	case m.Script == "":
		w.fail(p, "the metadata needs a script")
	}
	return m
}

func (w *walker) banner(p place) Banner {
	var b Banner
	before := len(w.problems)
	w.fields(p, map[string]func(place){
		"message":          func(p place) { w.text(p, maxLine, &b.Message) },
		"background_color": func(p place) { w.text(p, 64, &b.BackgroundColor) },
	})
	if b.Message == "" && len(w.problems) == before {
		w.fail(p, "the banner needs a message")
	}
	return b
}
