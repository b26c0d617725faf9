package exposition

import (
	"strconv"
	"strings"
)

// Negotiate returns the format that an Accept header wants most. Protobuf wins a
// tie, because it alone carries native histograms, then OpenMetrics. Who wants
// nothing that there is gets plain text.
func Negotiate(accept string) Format {
	var want [3]float64
	for _, part := range strings.Split(accept, ",") {
		media, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if f, ok := formatOf(strings.ToLower(strings.TrimSpace(media)), params); ok {
			want[f] = max(want[f], quality(params))
		}
	}
	best, found := Text, 0.0
	for _, f := range [...]Format{Protobuf, OpenMetrics, Text} {
		if want[f] > found {
			best, found = f, want[f]
		}
	}
	return best
}

// formatOf returns the format of a media type.
func formatOf(media, params string) (Format, bool) {
	switch media {
	case "application/openmetrics-text":
		v := param(params, "version")
		return OpenMetrics, v == "" || v == "1.0.0" || v == "0.0.1"
	case "application/vnd.google.protobuf":
		return Protobuf, param(params, "proto") == "io.prometheus.client.MetricFamily" && param(params, "encoding") == "delimited"
	case "text/plain", "text/*", "*/*":
		return Text, true
	}
	return Text, false
}

// identityCoding is no coding at all.
const identityCoding = "identity"

// negotiateCoding returns the one of the given content codings, the preferred
// first, that an Accept-Encoding header wants most.
func negotiateCoding(header string, offered []string) string {
	want := make(map[string]float64)
	for _, part := range strings.Split(header, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		want[strings.ToLower(strings.TrimSpace(coding))] = quality(params)
	}
	best, found := identityCoding, want[identityCoding] // 0 if it is only implied
	for i := len(offered) - 1; i >= 0; i-- {
		q, named := want[offered[i]]
		if !named {
			q = want["*"]
		}
		if q > 0 && q >= found {
			best, found = offered[i], q
		}
	}
	return best
}

// quality is the weight of a choice: 1 if there is none, 0 if it is no number.
func quality(params string) float64 {
	v := param(params, "q")
	if v == "" {
		return 1
	}
	q, err := strconv.ParseFloat(v, 64)
	if err != nil || !(q >= 0 && q <= 1) {
		return 0
	}
	return q
}

func param(params, name string) string {
	for _, p := range strings.Split(params, ";") {
		k, v, _ := strings.Cut(p, "=")
		if strings.EqualFold(strings.TrimSpace(k), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}
