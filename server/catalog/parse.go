package catalog

import (
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
)

// The bounds of a workspace document.
const (
	maxDocument    = 1 << 20 // bytes
	maxAgents      = 64
	maxScripts     = 64
	maxApps        = 64
	maxMetadata    = 64
	maxBanners     = 8
	maxVolumes     = 32
	maxEnvironment = 256
	maxScript      = 256 << 10 // bytes
	maxValue       = 32 << 10  // bytes of an environment variable
	maxLine        = 4096      // bytes of every other text
)

// envName is what an environment variable may be called.
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,255}$`)

// ParseSpec reads a workspace from YAML. file is used in messages only. The error
// joins a SpecError for every problem; the Spec is only good without one.
func ParseSpec(file string, document []byte) (Spec, error) {
	w := &walker{file: file}
	if len(document) > maxDocument {
		w.fail(place{}, "the document has %d bytes; at most %d are allowed", len(document), maxDocument)
		return Spec{}, w.err()
	}
	root, ok := w.root(document)
	if !ok {
		return Spec{}, w.err()
	}
	var s Spec
	w.spec(root, &s)
	if err := w.err(); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// spec reads the document. One agent may be written without a list: its fields
// then stand beside those of the workspace, and its name is main.
func (w *walker) spec(p place, s *Spec) {
	single := AgentSpec{Name: "main"}
	known := map[string]func(place){
		"name":  func(p place) { w.name(p, &s.Name) },
		"owner": func(p place) { w.name(p, &s.Owner) },
		"template": func(p place) {
			w.fields(p, map[string]func(place){
				"name":    func(p place) { w.name(p, &s.Template.Name) },
				"version": func(p place) { w.text(p, 128, &s.Template.Version) },
			})
		},
		"agents": func(p place) {
			w.list(p, maxAgents, func(p place) {
				a := AgentSpec{Name: "main"}
				known := w.agentFields(&a)
				known["name"] = func(p place) { w.name(p, &a.Name) }
				w.fields(p, known)
				s.Agents = named(w, p, s.Agents, a, func(a AgentSpec) string { return a.Name })
			})
		},
	}
	var beside *place // the first field of the shorthand
	for name, read := range w.agentFields(&single) {
		known[name] = func(p place) {
			if beside == nil || p.node.Line < beside.node.Line {
				beside = &p
			}
			read(p)
		}
	}
	before := len(w.problems)
	w.fields(p, known)
	if p.node.Kind != yaml.MappingNode {
		return
	}
	if s.Name == "" && len(w.problems) == before {
		w.fail(place{p.node, "name"}, "the workspace needs a name")
	}
	switch {
	case s.Agents != nil && beside != nil:
		w.fail(*beside, "belongs to an agent; with a list of agents, write it there")
	case s.Agents == nil && !hasKey(p.node, "agents"):
		s.Agents = []AgentSpec{single}
	case len(s.Agents) == 0 && len(w.problems) == before:
		w.fail(place{p.node, "agents"}, "the workspace needs an agent")
	}
}

func hasKey(n *yaml.Node, key string) bool {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return true
		}
	}
	return false
}

// named appends an item of a list, whose names must differ.
func named[T any](w *walker, p place, list []T, item T, name func(T) string) []T {
	n := name(item)
	if n != "" && slices.ContainsFunc(list, func(other T) bool { return name(other) == n }) {
		w.fail(p, "%q is there twice; names must differ", n)
	}
	return append(list, item)
}

func (w *walker) agentFields(a *AgentSpec) map[string]func(place) {
	return map[string]func(place){
		"directory":   func(p place) { w.text(p, maxLine, &a.Directory) },
		"motd_file":   func(p place) { w.text(p, maxLine, &a.MOTDFile) },
		"environment": func(p place) { w.environment(p, a) },
		"scripts": func(p place) {
			w.list(p, maxScripts, func(p place) {
				a.Scripts = named(w, p, a.Scripts, w.script(p), func(s Script) string { return s.Name })
			})
		},
		"apps": func(p place) {
			w.list(p, maxApps, func(p place) {
				a.Apps = named(w, p, a.Apps, w.app(p), func(app App) string { return app.Slug })
			})
		},
		"metadata": func(p place) {
			w.list(p, maxMetadata, func(p place) {
				a.Metadata = named(w, p, a.Metadata, w.metadata(p), func(m Metadata) string { return m.Key })
			})
		},
		"banners": func(p place) {
			w.list(p, maxBanners, func(p place) { a.Banners = append(a.Banners, w.banner(p)) })
		},
		"resources": func(p place) {
			w.fields(p, map[string]func(place){
				"memory": func(p place) { w.boolean(p, &a.Resources.Memory) },
				"volumes": func(p place) {
					w.list(p, maxVolumes, func(p place) {
						var v string
						w.text(p, maxLine, &v)
						a.Resources.Volumes = append(a.Resources.Volumes, v)
					})
				},
			})
		},
	}
}

func (w *walker) environment(p place, a *AgentSpec) {
	a.Environment = map[string]string{}
	w.entries(p, maxEnvironment, func(key string, at place) {
		if !envName.MatchString(key) {
			w.fail(at, "%q is no name for an environment variable", key)
			return
		}
		var v string
		w.text(at, maxValue, &v)
		a.Environment[key] = v
	})
}
