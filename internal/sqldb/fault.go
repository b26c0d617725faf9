package sqldb

import (
	"errors"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
)

// Fault is why the disk below a database did not take a write. The same write may
// succeed later.
type Fault int

// The faults.
const (
	NoFault Fault = iota
	// Full: there is no room.
	Full
	// IO: the disk failed.
	IO
)

// String returns the fault's name, as metrics have it.
func (f Fault) String() string {
	switch f {
	case Full:
		return "full"
	case IO:
		return "io"
	}
	return "none"
}

// FaultOf returns the fault of the disk that an error is about.
func FaultOf(err error) Fault {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "53100": // disk full
			return Full
		case "58030": // I/O error
			return IO
		}
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch lite.Code() & 0xff {
		case 13: // SQLITE_FULL
			return Full
		case 10: // SQLITE_IOERR
			return IO
		}
	}
	return NoFault
}

// faults counts what the disk refused.
type faults struct {
	full, io atomic.Uint64
	now      atomic.Int32 // the Fault of the last transaction
}

func (f *faults) note(err error) {
	fault := FaultOf(err)
	switch fault {
	case Full:
		f.full.Add(1)
	case IO:
		f.io.Add(1)
	}
	if err == nil || fault != NoFault {
		f.now.Store(int32(fault))
	}
}

// Faults returns how many transactions failed because of the disk since the
// database was opened, by their fault.
func (d *DB) Faults() map[Fault]uint64 {
	return map[Fault]uint64{Full: d.faults.full.Load(), IO: d.faults.io.Load()}
}

// Fault returns what was wrong with the disk at the last transaction that wrote.
func (d *DB) Fault() Fault { return Fault(d.faults.now.Load()) }
