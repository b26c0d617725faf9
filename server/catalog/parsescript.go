package catalog

import (
	"time"

	"go.yaml.in/yaml/v3"
)

func (w *walker) script(p place) Script {
	var s Script
	var cron, schedule *place
	before := len(w.problems)
	w.fields(p, map[string]func(place){
		"name":               func(p place) { w.name(p, &s.Name) },
		"script":             func(p place) { w.text(p, maxScript, &s.Text) },
		"on":                 func(p place) { w.on(p, &s) },
		"run_on_start":       func(p place) { w.boolean(p, &s.RunOnStart) },
		"run_on_stop":        func(p place) { w.boolean(p, &s.RunOnStop) },
		"cron":               func(p place) { cron = &p; w.cron(p, &s) },
		"schedule":           func(p place) { schedule = &p; w.schedule(p, &s) },
		"timeout":            func(p place) { w.duration(p, time.Millisecond, 30*24*time.Hour, &s.Timeout) },
		"start_blocks_login": func(p place) { w.boolean(p, &s.StartBlocksLogin) },
		"log_path":           func(p place) { w.text(p, maxLine, &s.LogPath) },
	})
	switch {
	case cron != nil && schedule != nil:
		w.fail(*schedule, "want cron or schedule, not both")
	case len(w.problems) > before:
	case s.Name == "":
		w.fail(p, "the script needs a name")
	case s.Text == "":
		w.fail(p, "the script is empty; write it under script")
	case !s.RunOnStart && !s.RunOnStop && s.Cron == "":
		w.fail(p, "the script never runs; want on: start, on: stop, schedule or cron")
	}
	return s
}

// on reads start, stop, or a list of them.
func (w *walker) on(p place, s *Script) {
	one := func(p place) {
		var v string
		w.text(p, maxLine, &v)
		switch v {
		case "start":
			s.RunOnStart = true
		case "stop":
			s.RunOnStop = true
		default:
			w.fail(p, "%q: want start or stop", v)
		}
	}
	if p.node.Kind == yaml.SequenceNode {
		w.list(p, 2, one)
		return
	}
	one(p)
}

func (w *walker) cron(p place, s *Script) {
	var v string
	w.text(p, maxLine, &v)
	if err := checkCron(v); err != nil {
		w.fail(p, "%q: %v", v, err)
		return
	}
	s.Cron = v
}

func (w *walker) schedule(p place, s *Script) {
	var v string
	w.text(p, maxLine, &v)
	spec, err := fromSchedule(v)
	if err != nil {
		w.fail(p, "%q: %v", v, err)
		return
	}
	s.Cron = spec
}
