package catalog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxProblems bounds how many problems of one document are reported.
const maxProblems = 50

// walker reads a YAML tree into Go values and collects everything that is wrong
// with it. Its methods never stop at a problem, so a document is judged as a
// whole.
type walker struct {
	file     string
	problems []*SpecError
}

// place is a node and its name in messages.
type place struct {
	node *yaml.Node
	path string
}

func (p place) child(name string, n *yaml.Node) place {
	if p.path == "" {
		return place{n, name}
	}
	return place{n, p.path + "." + name}
}

func (w *walker) fail(p place, format string, args ...any) {
	e := &SpecError{File: w.file, Field: p.path, Reason: fmt.Sprintf(format, args...)}
	if p.node != nil {
		e.Line = p.node.Line
	}
	w.problems = append(w.problems, e)
}

// err joins the problems.
func (w *walker) err() error {
	if len(w.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(w.problems, func(a, b *SpecError) int { return cmp.Compare(a.Line, b.Line) })
	var errs []error
	for i, p := range w.problems {
		if i == maxProblems {
			errs = append(errs, &SpecError{File: w.file, Reason: fmt.Sprintf("and %d more problems", len(w.problems)-i)})
			break
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// yamlLine finds the line number in the parser's messages.
var yamlLine = regexp.MustCompile(`^yaml: (?:line ([0-9]+): )?(.*)$`)

// root parses the text, which must hold exactly one document.
func (w *walker) root(text []byte) (place, bool) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	if errors.Is(err, io.EOF) {
		w.fail(place{}, "the document is empty")
		return place{}, false
	}
	if err == nil {
		switch err = dec.Decode(&more); {
		case errors.Is(err, io.EOF):
			err = nil
		case err == nil:
			w.fail(place{node: &more}, "a second document begins; want one")
			return place{}, false
		}
	}
	if err != nil {
		reason, line := err.Error(), 0
		if m := yamlLine.FindStringSubmatch(reason); m != nil {
			line, _ = strconv.Atoi(m[1])
			reason = m[2]
		}
		if line == 0 {
			line = unreadableLine(text)
		}
		w.fail(place{node: &yaml.Node{Line: line}}, "%s", reason)
		return place{}, false
	}
	if len(doc.Content) == 0 {
		w.fail(place{}, "the document is empty")
		return place{}, false
	}
	return place{node: doc.Content[0]}, true
}

// unreadableLine finds the line where the parser names none: the one with the
// first character that YAML does not allow, or else the first one, whose number
// it leaves out.
func unreadableLine(text []byte) int {
	line := 1
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == '\n':
			line++
		case r == utf8.RuneError && size == 1, unicode.IsControl(r) && r != '\t' && r != '\r' && r != '\u0085':
			return line
		}
		rest = rest[size:]
	}
	return 1
}

// fields walks a mapping. Each known key has a function; unknown and repeated
// ones are problems.
func (w *walker) fields(p place, known map[string]func(place)) {
	if !w.want(p, yaml.MappingNode, "a mapping") {
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(p.node.Content); i += 2 {
		key := p.node.Content[i]
		at := p.child(key.Value, key)
		read, ok := known[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			w.fail(place{key, p.path}, "want a plain key")
		case !ok:
			w.fail(at, "unknown field")
		case seen[key.Value]:
			w.fail(at, "the field is set twice")
		default:
			seen[key.Value] = true
			read(p.child(key.Value, p.node.Content[i+1]))
		}
	}
}

// entries walks a mapping whose keys are free.
func (w *walker) entries(p place, most int, read func(key string, at place)) {
	if !w.want(p, yaml.MappingNode, "a mapping") {
		return
	}
	if len(p.node.Content)/2 > most {
		w.fail(p, "has %d entries; at most %d are allowed", len(p.node.Content)/2, most)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(p.node.Content); i += 2 {
		key := p.node.Content[i]
		if key.Kind != yaml.ScalarNode || seen[key.Value] {
			w.fail(p.child(key.Value, key), "want plain keys, each once")
			continue
		}
		seen[key.Value] = true
		read(key.Value, p.child(key.Value, p.node.Content[i+1]))
	}
}

// list walks a sequence.
func (w *walker) list(p place, most int, read func(place)) {
	if !w.want(p, yaml.SequenceNode, "a list") {
		return
	}
	if len(p.node.Content) > most {
		w.fail(p, "has %d items; at most %d are allowed", len(p.node.Content), most)
		return
	}
	for i, n := range p.node.Content {
		read(place{n, p.path + "[" + strconv.Itoa(i) + "]"})
	}
}

// want checks the kind of a node. Aliases are refused: they make small documents
// huge.
func (w *walker) want(p place, kind yaml.Kind, what string) bool {
	if p.node.Kind == yaml.AliasNode {
		w.fail(p, "aliases are not supported")
		return false
	}
	if p.node.Kind != kind || p.node.Tag == "!!null" {
		w.fail(p, "want %s", what)
		return false
	}
	return true
}

// text reads a string of at most so many bytes.
func (w *walker) text(p place, most int, to *string) {
	v := p.node.Value
	// An unquoted ~ is null in YAML, but whoever writes it means the home directory.
	if v != "~" && !w.want(p, yaml.ScalarNode, "a text") {
		return
	}
	switch {
	case len(v) > most:
		w.fail(p, "has %d bytes; at most %d are allowed", len(v), most)
	case !utf8.ValidString(v) || strings.ContainsRune(v, 0):
		w.fail(p, "want UTF-8 without NUL")
	default:
		*to = v
	}
}

// name reads a text that must match namePattern.
func (w *walker) name(p place, to *string) {
	before := len(w.problems)
	var v string
	w.text(p, 4096, &v)
	if len(w.problems) > before {
		return
	}
	if !namePattern.MatchString(v) {
		w.fail(p, "%q: %s", v, nameRule)
		return
	}
	*to = v
}

func (w *walker) boolean(p place, to *bool) {
	if !w.want(p, yaml.ScalarNode, "true or false") {
		return
	}
	switch p.node.Value {
	case "true":
		*to = true
	case "false":
		*to = false
	default:
		w.fail(p, "%q: want true or false", p.node.Value)
	}
}

func (w *walker) integer(p place, least, most int64, to *int32) {
	if !w.want(p, yaml.ScalarNode, "a number") {
		return
	}
	v, err := strconv.ParseInt(p.node.Value, 10, 32)
	if err != nil || v < least || v > most {
		w.fail(p, "%q: want a whole number from %d to %d", p.node.Value, least, most)
		return
	}
	*to = int32(v)
}

// duration reads a Go duration that is a multiple of unit.
func (w *walker) duration(p place, unit, most time.Duration, to *time.Duration) {
	if !w.want(p, yaml.ScalarNode, "a duration such as 30s") {
		return
	}
	v, err := time.ParseDuration(p.node.Value)
	switch {
	case err != nil:
		w.fail(p, "%q: want a duration such as 30s or 5m", p.node.Value)
	case v < unit || v > most || v%unit != 0:
		w.fail(p, "%q: want a multiple of %v up to %v", p.node.Value, unit, most)
	default:
		*to = v
	}
}
