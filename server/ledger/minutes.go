package ledger

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
	"time"
)

// appMinutes is the minutes of one hour at whose first instant a session of the
// app was open.
type appMinutes struct {
	app  string
	mask uint64
}

// minutes is a set of them, sorted by app, each app once.
type minutes []appMinutes

// maxHourApps bounds the apps of one hour; further ones count as overflowApp.
const maxHourApps = 64

// overflowApp takes the minutes of apps for which there is no room.
const overflowApp = "unknown"

// add marks minutes of an app.
func (m minutes) add(app string, mask uint64) minutes {
	i, found := slices.BinarySearchFunc(m, app, func(a appMinutes, app string) int { return cmp.Compare(a.app, app) })
	if found {
		m[i].mask |= mask
		return m
	}
	if len(m) >= maxHourApps && app != overflowApp {
		return m.add(overflowApp, mask)
	}
	return slices.Insert(m, i, appMinutes{app, mask})
}

// union returns both together, and whether that is more than m.
func (m minutes) union(other minutes) (minutes, bool) {
	all := slices.Clone(m)
	for _, o := range other {
		all = all.add(o.app, o.mask)
	}
	return all, !slices.Equal(all, m)
}

// asMap is the form that callers get.
func (m minutes) asMap() map[string]uint64 {
	out := make(map[string]uint64, len(m))
	for _, a := range m {
		out[a.app] = a.mask
	}
	return out
}

// encode writes, for each app, the length of its name (varint), the name, and
// the mask (8 bytes, little endian).
func (m minutes) encode() []byte {
	b := []byte{}
	for _, a := range m {
		b = binary.AppendUvarint(b, uint64(len(a.app)))
		b = append(b, a.app...)
		b = binary.LittleEndian.AppendUint64(b, a.mask)
	}
	return b
}

var errMinutes = errors.New("minutes of an hour are damaged")

func decodeMinutes(b []byte) (minutes, error) {
	var m minutes
	for len(b) > 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) || uint64(len(b)-k)-n < 8 {
			return nil, errMinutes
		}
		b = b[k:]
		m = m.add(string(b[:n]), binary.LittleEndian.Uint64(b[n:]))
		b = b[n+8:]
	}
	return m, nil
}

// eachHour calls fn for every hour that has a minute whose first instant lies in
// (start, end], with the mask of those minutes.
func eachHour(start, end time.Time, fn func(hour int64, mask uint64)) {
	// The first instant of minute m is in the interval iff floor(start) < m <= floor(end).
	first, last := floorDiv(start.UnixNano(), int64(time.Minute))+1, floorDiv(end.UnixNano(), int64(time.Minute))
	for m := first; m <= last; {
		hour := floorDiv(m, 60)
		upto := min(last, hour*60+59)
		from, n := m-hour*60, upto-m+1
		fn(hour, (uint64(1)<<n-1)<<from)
		m = upto + 1
	}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
