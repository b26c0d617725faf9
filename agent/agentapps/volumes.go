package agentapps

import (
	"context"
	"time"
)

// measured is the answer for one volume.
type measured struct {
	index int
	usage *Usage
}

// measureVolumes returns the usage of each path, nil for those that fail or do
// not answer in time. Measuring a file system whose server is gone cannot be
// interrupted: its goroutine is left behind, one for each path at most, and ends
// when the kernel answers.
func (r *Resources) measureVolumes(ctx context.Context, paths []string) []*Usage {
	answers := make(chan measured, len(paths))
	waiting := 0
	for i, path := range paths {
		if !r.begin(path) {
			r.log.Warn("volume still does not answer", "path", path)
			continue
		}
		waiting++
		go func() {
			u, err := r.volume(path)
			r.end(path)
			if err != nil {
				r.log.Debug("measure volume", "path", path, "err", err)
				answers <- measured{i, nil}
				return
			}
			answers <- measured{i, &u}
		}()
	}
	usages := make([]*Usage, len(paths))
	timer := time.NewTimer(volumeWait)
	defer timer.Stop()
	for ; waiting > 0; waiting-- {
		select {
		case m := <-answers:
			usages[m.index] = m.usage
		case <-timer.C:
			return usages
		case <-ctx.Done():
			return usages
		}
	}
	return usages
}

func (r *Resources) begin(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hanging[path] {
		return false
	}
	r.hanging[path] = true
	return true
}

func (r *Resources) end(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hanging, path)
}
