package exposition

import (
	"io"
	"math"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The fields of io.prometheus.client's messages.
const (
	familyName, familyHelp, familyType, familyMetric = 1, 2, 3, 4

	metricLabel, metricGauge, metricCounter, metricUntyped, metricHistogram = 1, 2, 3, 5, 7

	pairName, pairValue = 1, 2
	numberValue         = 1 // of Gauge, Counter and Untyped

	histogramCount, histogramSum, histogramBucket = 1, 2, 3
	bucketCount, bucketBound                      = 1, 2
)

// protoWriter writes protobuf. A family is one message with its length before
// it, and may be large: its metrics are encoded twice, first to learn the length,
// so that only one of them is in memory at a time.
type protoWriter struct {
	w   io.Writer
	buf []byte
	err error
	// metric, part and labels are reused.
	metric, part, labels []byte
}

func (p *Page) writeProtobuf(w io.Writer) error {
	pw := &protoWriter{w: w, buf: make([]byte, 0, bufferSize+slack)}
	present := p.present()
	for i := range p.Table.families {
		// A family without metrics has no place in this format.
		if f := &p.Table.families[i]; present[i] && p.shows(f) {
			pw.family(f, i, p.groups())
		}
		if pw.err != nil {
			return pw.err
		}
	}
	for _, mf := range p.Gathered {
		if !p.showsGathered(mf) || len(mf.GetMetric()) == 0 {
			continue
		}
		encoded, err := proto.Marshal(mf)
		if err != nil {
			continue // a broken family is left out, as a broken registry is
		}
		pw.buf = protowire.AppendBytes(pw.buf, encoded)
		pw.flush(bufferSize)
	}
	pw.flush(0)
	return pw.err
}

func (pw *protoWriter) family(f *Family, index int, groups [][]*Row) {
	head := protowire.AppendTag(nil, familyName, protowire.BytesType)
	head = protowire.AppendString(head, f.Name)
	head = protowire.AppendTag(head, familyHelp, protowire.BytesType)
	head = protowire.AppendString(head, f.Help)
	head = protowire.AppendTag(head, familyType, protowire.VarintType)
	head = protowire.AppendVarint(head, uint64(protoType(f.Type)))
	size := len(head)
	pw.metrics(f, index, groups, func() {
		size += protowire.SizeTag(familyMetric) + protowire.SizeBytes(len(pw.metric))
	})
	pw.buf = protowire.AppendVarint(pw.buf, uint64(size))
	pw.buf = append(pw.buf, head...)
	pw.metrics(f, index, groups, func() {
		pw.buf = protowire.AppendTag(pw.buf, familyMetric, protowire.BytesType)
		pw.buf = protowire.AppendBytes(pw.buf, pw.metric)
		pw.flush(bufferSize)
	})
}

// metrics calls emit for each metric of a family, which is then in pw.metric.
func (pw *protoWriter) metrics(f *Family, index int, groups [][]*Row, emit func()) {
	for _, rows := range groups {
		for _, r := range rows {
			first, places := r.shape.of(index)
			if len(places) == 0 {
				continue
			}
			pw.labels = appendPairs(pw.labels[:0], r.identity(f.Identity))
			if f.Type == Histogram {
				pw.histograms(r, first, places, emit)
				continue
			}
			for i := range places {
				pw.metric = appendPairs(append(pw.metric[:0], pw.labels...), places[i].labels())
				pw.part = appendDouble(pw.part[:0], numberValue, r.value(first+i))
				pw.metric = appendMessage(pw.metric, metricOf(f.Type), pw.part)
				emit()
			}
		}
	}
}

// histograms puts the parts of each histogram together; they stand side by side,
// buckets first and the count last.
func (pw *protoWriter) histograms(r *Row, first int, places []place, emit func()) {
	var buckets [2*binaryMax + 2]byte
	pw.part = pw.part[:0]
	for i := range places {
		labels, bound := splitBound(places[i].labels())
		switch v := r.value(first + i); places[i].suffix {
		case bucketSuffix:
			b := protowire.AppendTag(buckets[:0], bucketCount, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(v))
			pw.part = appendMessage(pw.part, histogramBucket, appendDouble(b, bucketBound, bound))
		case sumSuffix:
			pw.part = appendDouble(pw.part, histogramSum, v)
		case countSuffix:
			pw.part = protowire.AppendTag(pw.part, histogramCount, protowire.VarintType)
			pw.part = protowire.AppendVarint(pw.part, uint64(v))
			pw.metric = appendPairs(append(pw.metric[:0], pw.labels...), labels)
			pw.metric = appendMessage(pw.metric, metricHistogram, pw.part)
			emit()
			pw.part = pw.part[:0]
		}
	}
}

// binaryMax is the most that a number takes.
const binaryMax = 10

// flush hands the buffer on if it holds at least limit bytes.
func (pw *protoWriter) flush(limit int) {
	if len(pw.buf) < limit {
		return
	}
	if pw.err == nil {
		_, pw.err = pw.w.Write(pw.buf)
	}
	pw.buf = pw.buf[:0]
}

// appendPairs encodes rendered labels.
func appendPairs(b []byte, rendered string) []byte {
	for rendered != "" {
		var name, value string
		name, value, rendered = nextLabel(rendered)
		size := 2 + protowire.SizeBytes(len(name)) + protowire.SizeBytes(len(value))
		b = protowire.AppendTag(b, metricLabel, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(size))
		b = protowire.AppendString(protowire.AppendTag(b, pairName, protowire.BytesType), name)
		b = protowire.AppendString(protowire.AppendTag(b, pairValue, protowire.BytesType), value)
	}
	return b
}

func appendDouble(b []byte, field protowire.Number, v float64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), math.Float64bits(v))
}

func appendMessage(b []byte, field protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), message)
}

func metricOf(t Type) protowire.Number {
	switch t {
	case Counter:
		return metricCounter
	case Gauge:
		return metricGauge
	}
	return metricUntyped
}

func protoType(t Type) dto.MetricType {
	switch t {
	case Counter:
		return dto.MetricType_COUNTER
	case Gauge:
		return dto.MetricType_GAUGE
	case Histogram:
		return dto.MetricType_HISTOGRAM
	}
	return dto.MetricType_UNTYPED
}
