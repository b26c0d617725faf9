package ledger

import (
	"encoding/binary"
	"errors"
	"time"
)

const (
	// recentAge is how far back the byte gauges look.
	recentAge = 60 * time.Second
	// maxRecent bounds how many windows are kept for them.
	maxRecent = 64
)

// appendRecent adds a window and forgets those that are too old, and those that end
// after it, which is what a clock that was set back leaves.
func appendRecent(list []RecentWindow, w RecentWindow) []RecentWindow {
	kept := make([]RecentWindow, 0, len(list)+1)
	for _, r := range list {
		if age := w.End.Sub(r.End); age >= 0 && age < recentAge {
			kept = append(kept, r)
		}
	}
	kept = append(kept, w)
	return kept[max(0, len(kept)-maxRecent):]
}

// encodeRecent writes three varints for each window: end in microseconds, bytes
// received, bytes sent.
func encodeRecent(list []RecentWindow) []byte {
	b := []byte{}
	for _, r := range list {
		b = binary.AppendUvarint(b, uint64(r.End.UnixMicro()))
		b = binary.AppendUvarint(b, r.RxBytes)
		b = binary.AppendUvarint(b, r.TxBytes)
	}
	return b
}

var errRecent = errors.New("recent windows are damaged")

func decodeRecent(b []byte) ([]RecentWindow, error) {
	var list []RecentWindow
	for len(b) > 0 {
		var v [3]uint64
		for i := range v {
			n, k := binary.Uvarint(b)
			if k <= 0 {
				return nil, errRecent
			}
			v[i], b = n, b[k:]
		}
		list = append(list, RecentWindow{End: time.UnixMicro(int64(v[0])).UTC(), RxBytes: v[1], TxBytes: v[2]})
	}
	return list, nil
}
