package exposition

import "testing"

func TestNegotiate(t *testing.T) {
	const proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	for accept, want := range map[string]Format{
		"":    Text,
		"*/*": Text,
		"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3": OpenMetrics,
		"application/openmetrics-text; version=2.0.0, text/plain":                         Text,
		"text/plain;q=0.9, application/openmetrics-text;q=0.1":                            Text,
		"application/openmetrics-text;q=nonsense":                                         Text,
		"application/openmetrics-text;q=0, text/plain;q=0.1":                              Text,
		"application/openmetrics-text;q=7":                                                Text,
		"application/openmetrics-text;q=NaN":                                              Text,
		"APPLICATION/OpenMetrics-Text":                                                    OpenMetrics,
		"image/png":                                                                       Text,
		proto:                                                                             Protobuf,
		proto + ";q=0.1, */*;q=0.01":                                                      Protobuf,
		proto + ";q=0.1, application/openmetrics-text;q=0.2":                              OpenMetrics,
		"application/openmetrics-text, " + proto:                                          Protobuf,
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text": Text,
		"application/vnd.google.protobuf;proto=io.prometheus.write.v2.Request":                  Text,
		// What Prometheus sends, without and with native histograms.
		"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1":                OpenMetrics,
		proto + ",application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1": Protobuf,
	} {
		if got := Negotiate(accept); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func TestNegotiateCoding(t *testing.T) {
	for header, want := range map[string]string{
		"":                            "identity",
		"gzip":                        "gzip",
		"GZIP":                        "gzip",
		"gzip, zstd":                  "zstd",
		"zstd;q=0.5, gzip":            "gzip",
		"gzip;q=0":                    "identity",
		"gzip;q=nonsense":             "identity",
		"br":                          "identity",
		"*":                           "zstd",
		"*;q=0":                       "identity",
		"zstd;q=0, *":                 "gzip",
		"identity, gzip;q=0.5":        "identity",
		"identity;q=0.1, gzip;q=0.5":  "gzip",
		"identity;q=0.5, gzip;q=0.5":  "gzip",
		"deflate, gzip;q=1.0, *;q=.5": "gzip",
	} {
		if got := negotiateCoding(header, []string{"zstd", "gzip"}); got != want {
			t.Errorf("%q: %s, want %s", header, got, want)
		}
	}
}

// FuzzNegotiate: whatever somebody asks for, there is an answer.
func FuzzNegotiate(f *testing.F) {
	f.Add("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3")
	f.Add("gzip;q=1e400, *;q=-1,,;;=")
	f.Fuzz(func(t *testing.T, header string) {
		if got := Negotiate(header); got > Protobuf {
			t.Errorf("format %d", got)
		}
		switch got := negotiateCoding(header, []string{"zstd", "gzip"}); got {
		case "zstd", "gzip", identityCoding:
		default:
			t.Errorf("coding %q", got)
		}
	})
}
