package exposition

import "strings"

// Label is one label of a sample.
type Label struct{ Name, Value string }

// renderLabels writes sorted labels; those with an empty value are left out.
func renderLabels(labels []Label) string { return string(appendLabels(nil, labels)) }

func appendLabels(b []byte, labels []Label) []byte {
	labels = sorted(labels)
	start := len(b)
	for _, l := range labels {
		if l.Value == "" {
			continue
		}
		if len(b) > start {
			b = append(b, ',')
		}
		b = append(b, l.Name...)
		b = append(b, `="`...)
		b = appendEscaped(b, l.Value, true)
		b = append(b, '"')
	}
	return b
}

// sorted returns labels sorted by name. There are few, and most are sorted: that
// is no case for the library's sort, which each type that it is used with adds to
// the agent's binary.
func sorted(labels []Label) []Label {
	copied := false
	for i := 1; i < len(labels); i++ {
		for j := i; j > 0 && labels[j].Name < labels[j-1].Name; j-- {
			if !copied {
				labels, copied = append([]Label(nil), labels...), true
			}
			labels[j], labels[j-1] = labels[j-1], labels[j]
		}
	}
	return labels
}

func appendEscaped(b []byte, s string, quotes bool) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\\':
			b = append(b, `\\`...)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '"' && quotes:
			b = append(b, `\"`...)
		default:
			b = append(b, c)
		}
	}
	return b
}

// nextLabel takes the first label off rendered ones. They were valid when they
// were rendered.
func nextLabel(rendered string) (name, value, rest string) {
	name, rest, _ = strings.Cut(rendered, `="`)
	for i := 0; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++ // what follows is escaped
		case '"':
			return name, unescape(rest[:i]), strings.TrimPrefix(rest[i+1:], ",")
		}
	}
	panic("BUG: exposition: rendered labels " + rendered)
}

func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\"`, `"`).Replace(s)
}

// IsIdentityLabel says whether a label name is one of those that identify an
// agent; they are put on when a page is written and never come from outside.
func IsIdentityLabel(name string) bool {
	switch name {
	case "agent_name", "username", "workspace_name", "template_name":
		return true
	}
	return false
}

// ValidLabelName says whether a name is a label name of the classic charset
// that is not reserved.
func ValidLabelName(s string) bool {
	return !strings.HasPrefix(s, "__") && validName(s, false)
}

// ValidMetricName says whether a name is a metric name of the classic charset.
func ValidMetricName(s string) bool { return validName(s, true) }

func validName(s string, colon bool) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		ok := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9' || colon && c == ':'
		if !ok {
			return false
		}
	}
	return true
}
