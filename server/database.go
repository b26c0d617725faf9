package server

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/worktally/worktally/internal/sqldb"
	"github.com/worktally/worktally/server/ledger"
)

// openDatabase opens the database that everything shares. What is damaged there
// may go if agents bring it back: the ledger, whose totals they report again.
func (s *Server) openDatabase(ctx context.Context) (err error) {
	guard := sqldb.Guard{Log: s.log, Heals: ledger.Component, SetAside: s.o.SetAsideDatabase}
	if s.db, err = guard.Open(ctx, s.o.DatabaseDSN); err != nil {
		return err
	}
	s.registerDatabase(promauto.With(s.registry))
	return nil
}

// registerDatabase shows what the database's disk refuses.
func (s *Server) registerDatabase(f promauto.Factory) {
	db := s.db
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "worktally_database_set_aside",
		Help: "1 if the database was damaged when the server started, so that another one took its place.",
	}, func() float64 { return float64(sqldb.Bit(db.Aside() != "")) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "worktally_database_writable",
		Help: "0 if the disk was full or failed when the database was last written, otherwise 1.",
	}, func() float64 { return float64(sqldb.Bit(db.Fault() == sqldb.NoFault)) })
	for _, fault := range []sqldb.Fault{sqldb.Full, sqldb.IO} {
		f.NewCounterFunc(prometheus.CounterOpts{
			Name: "worktally_database_write_failures_total", ConstLabels: prometheus.Labels{"reason": fault.String()},
			Help: "Transactions that failed because the database's disk is full or fails, by reason.",
		}, func() float64 { return float64(db.Faults()[fault]) })
	}
}
