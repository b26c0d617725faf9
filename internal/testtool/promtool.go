package testtool

import (
	"strings"
	"testing"
)

// Lint checks a page in the text format with promtool and returns its complaints,
// "" if it has none but those that the contract's own names cause.
func Lint(t testing.TB, page []byte) string {
	t.Helper()
	out, err := Output(t, page, Find(t, "promtool"), "check", "metrics")
	var left []string
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !excepted(line) {
			left = append(left, line)
		}
	}
	if out == "" && err != nil {
		left = append(left, err.Error())
	}
	return strings.Join(left, "\n")
}

// excepted: the list may only shrink.
func excepted(complaint string) bool {
	for _, e := range []string{
		// The contract's name of a gauge.
		`coderd_agentstats_connection_count non-histogram and non-summary metrics should not have "_count" suffix`,
		// The contract's name of a gauge, deprecated there too.
		`coderd_oauth2_external_requests_rate_limit_total non-counter metrics should not have "_total" suffix`,
		// The contract's name of a gauge, deprecated.
		`coderd_api_workspace_latest_build_total non-counter metrics should not have "_total" suffix`,
		// A family that libraries no longer have, kept with the old name.
		`go_memstats_lookups_total`,
	} {
		if strings.Contains(complaint, e) {
			return true
		}
	}
	return false
}
