package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/worktally/worktally/bench/report"
)

// result is what a contender measured, in bytes and seconds of CPU.
type result struct {
	CPU       float64 // of one exposition, all threads, garbage collection included
	Bytes     float64 // that came out
	Retained  float64 // heap that holds the series
	Allocated float64 // heap allocated by one exposition, which bounds what it adds
}

// race runs a contender in a process of its own.
func race(ctx context.Context, o options, name string) (result, error) {
	fmt.Fprintf(o.progress, "measuring %s\n", name)
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(ctx, self, "-contender", name, "-agents", fmt.Sprint(o.agents), "-rounds", fmt.Sprint(o.rounds))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("%s: %w", name, err)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// measure builds something to expose and exposes it again and again.
func measure(rounds int, build func() (expose func() (int, error), err error)) (r result, err error) {
	before := heap()
	expose, err := build()
	if err != nil {
		return r, err
	}
	r.Retained = float64(heap()) - float64(before)
	if _, err := expose(); err != nil { // pools are filled
		return r, err
	}
	var cpu, allocated []float64
	for range rounds {
		runtime.GC()
		var from, to runtime.MemStats
		runtime.ReadMemStats(&from)
		began := cpuSeconds()
		n, err := expose()
		if err != nil {
			return r, err
		}
		cpu = append(cpu, cpuSeconds()-began)
		runtime.ReadMemStats(&to)
		allocated = append(allocated, float64(to.TotalAlloc-from.TotalAlloc))
		r.Bytes = float64(n)
	}
	r.CPU, r.Allocated = report.Median(cpu), report.Median(allocated)
	return r, nil
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // pools are emptied in two steps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("BUG: bench: getrusage: " + err.Error())
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}

// sink is a client that counts bytes and throws them away, so that handlers are
// measured and not the kernel.
type sink struct {
	header http.Header
	status int
	n      int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { s.n += len(p); return len(p), nil }

// get asks a handler for its page.
func get(h http.Handler, accept, encoding string) (int, error) {
	r, err := http.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Accept", accept)
	r.Header.Set("Accept-Encoding", encoding)
	s := &sink{header: make(http.Header), status: http.StatusOK}
	h.ServeHTTP(s, r)
	if s.status != http.StatusOK {
		return 0, fmt.Errorf("the handler answered %d", s.status)
	}
	return s.n, nil
}
