package exposition

import "fmt"

// LabelMode chooses the labels of the families whose published labels and those
// that a running reference server really shows differ (contract metrics.md
// section 0).
type LabelMode uint8

// The modes.
const (
	// LabelsBoth shows the union of both sets, so that queries for either work.
	LabelsBoth LabelMode = iota
	// LabelsSeed shows the published labels.
	LabelsSeed
	// LabelsLive shows those of a running reference server.
	LabelsLive
)

// String returns the name of the mode, as a flag has it.
func (m LabelMode) String() string { return [...]string{"both", "seed", "live"}[m] }

// UnmarshalText implements encoding.TextUnmarshaler; "" is LabelsBoth.
func (m *LabelMode) UnmarshalText(text []byte) error {
	switch string(text) {
	case "", "both":
		*m = LabelsBoth
	case "seed":
		*m = LabelsSeed
	case "live":
		*m = LabelsLive
	default:
		return fmt.Errorf("%q is none of both, seed and live", text)
	}
	return nil
}

// pick returns the labels of a family in this mode.
func (m LabelMode) pick(both, seed, live []string) []string {
	return [...][]string{both, seed, live}[m]
}
