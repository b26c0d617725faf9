package ledger

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/wire/worktallypb"
)

// latestRow is the stored form of a Latest without Totals.
type latestRow struct {
	out                            Latest
	sequence                       int64
	end, length, arrival, interval int64
	gauges, recent                 []byte
}

// targets are the destinations for latestColumns.
func (r *latestRow) targets() []any {
	return []any{&r.out.OwnerID, &r.out.TemplateName, &r.out.Epoch, &r.sequence, &r.end, &r.length, &r.arrival, &r.interval, &r.gauges, &r.recent}
}

func (r *latestRow) latest() (Latest, error) {
	l := r.out
	l.Sequence = uint64(r.sequence)
	l.End, l.Arrival = sqldb.Time(r.end), sqldb.Time(r.arrival)
	l.Length, l.Interval = time.Duration(r.length)*time.Microsecond, time.Duration(r.interval)*time.Microsecond
	var err, err2 error
	if len(r.gauges) > 0 {
		l.Gauges = new(worktallypb.Gauges)
		err = proto.Unmarshal(r.gauges[1:], l.Gauges)
	}
	l.Recent, err2 = decodeRecent(r.recent)
	return l, errors.Join(err, err2)
}

// encodeGauges puts a byte in front, so that empty gauges differ from none.
func encodeGauges(g *worktallypb.Gauges) ([]byte, error) {
	if g == nil {
		return []byte{}, nil
	}
	return proto.MarshalOptions{}.MarshalAppend([]byte{1}, g)
}
