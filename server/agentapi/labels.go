package agentapi

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/worktally/worktally/exposition"
	"github.com/worktally/worktally/wire/worktallypb"
)

// boundFits says whether a series has a bucket bound exactly if it is a bucket,
// and then in the one form in which bounds are written.
func (c *checker) boundFits(m *worktallypb.Series) bool {
	_, suffix, _ := c.s.o.Table.Lookup(m.GetName())
	for i := 0; i < len(m.GetLabels()); i += 2 {
		if m.Labels[i] == "le" {
			bound, err := strconv.ParseFloat(m.Labels[i+1], 64)
			return suffix == "_bucket" && err == nil && !math.IsNaN(bound) && exposition.FormatBound(bound) == m.Labels[i+1]
		}
	}
	return suffix != "_bucket"
}

// cleanLabels checks the labels of a series and sorts them by name.
func cleanLabels(m *worktallypb.Series) bool {
	l := m.GetLabels()
	if len(l)%2 != 0 || len(l) > 2*maxLabels {
		return false
	}
	pairs := make([]exposition.Label, 0, len(l)/2)
	for i := 0; i < len(l); i += 2 {
		name, value := l[i], l[i+1]
		if !exposition.ValidLabelName(name) || len(name) > maxName || exposition.IsIdentityLabel(name) ||
			!utf8.ValidString(value) || len(value) > maxLabelValue || strings.ContainsRune(value, 0) {
			return false
		}
		if value != "" {
			pairs = append(pairs, exposition.Label{Name: name, Value: value})
		}
	}
	slices.SortFunc(pairs, func(a, b exposition.Label) int { return strings.Compare(a.Name, b.Name) })
	m.Labels = m.Labels[:0]
	for i, p := range pairs {
		if i > 0 && pairs[i-1].Name == p.Name {
			return false
		}
		m.Labels = append(m.Labels, p.Name, p.Value)
	}
	return true
}
