package exposition

// Format is an exposition format.
type Format uint8

// The formats.
const (
	// Text is Prometheus' text format 0.0.4.
	Text Format = iota
	// OpenMetrics is OpenMetrics 1.0 as text.
	OpenMetrics
	// Protobuf is a sequence of io.prometheus.client.MetricFamily, each with its
	// length before it. It alone has native histograms.
	Protobuf
)

// ContentType returns the content type of the format.
func (f Format) ContentType() string {
	return [...]string{
		"text/plain; version=0.0.4; charset=utf-8",
		"application/openmetrics-text; version=1.0.0; charset=utf-8",
		"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
	}[f]
}
