package agentapps

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// cgroupFiles are the files of one version of control groups, relative to the
// root of the file system. Version 1 shows the host's own group on a host.
type cgroupFiles struct{ used, limit, stat, inactive string }

// memoryUsage returns the memory of the container we are in, else that of the
// host. A container without a limit can use what the host has. Cached files that
// nobody used lately can be reclaimed and do not count as used.
func memoryUsage(root string) (Usage, error) {
	host, hostErr := hostMemory(root)
	for _, f := range []cgroupFiles{
		{"memory.current", "memory.max", "memory.stat", "inactive_file"},
		{"memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes", "memory/memory.stat", "total_inactive_file"},
	} {
		u, err := cgroupMemory(filepath.Join(root, "sys/fs/cgroup"), f)
		if err != nil {
			continue
		}
		if hostErr == nil && (u.Total == 0 || u.Total > host.Total) {
			u.Total = host.Total
		}
		if u.Total > 0 {
			return u, nil
		}
	}
	return host, hostErr
}

func hostMemory(root string) (Usage, error) {
	fs, err := procfs.NewFS(filepath.Join(root, "proc"))
	if err != nil {
		return Usage{}, fmt.Errorf("measure memory of the host: %w", err)
	}
	m, err := fs.Meminfo()
	if err != nil {
		return Usage{}, fmt.Errorf("measure memory of the host: %w", err)
	}
	if m.MemTotalBytes == nil || m.MemAvailableBytes == nil || *m.MemAvailableBytes > *m.MemTotalBytes {
		return Usage{}, errors.New("measure memory of the host: total or available memory is missing")
	}
	return Usage{Used: int64(*m.MemTotalBytes - *m.MemAvailableBytes), Total: int64(*m.MemTotalBytes)}, nil
}

// cgroupMemory returns the memory of a control group, with total 0 if it has no
// limit.
func cgroupMemory(dir string, f cgroupFiles) (Usage, error) {
	used, err := readNumber(filepath.Join(dir, f.used))
	if err != nil {
		return Usage{}, err
	}
	inactive, err := readStat(filepath.Join(dir, f.stat), f.inactive)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Used: max(0, used-inactive)}
	if limit, err := readNumber(filepath.Join(dir, f.limit)); err == nil {
		u.Total = limit // version 2 says "max", version 1 a number beyond any memory
	}
	return u, nil
}

func readNumber(name string) (int64, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("read %s: no number", name)
	}
	return n, nil
}

// readStat returns the value of a key in a file of keys and values.
func readStat(name, key string) (int64, error) {
	file, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), key+" "); ok {
			return strconv.ParseInt(v, 10, 64)
		}
	}
	return 0, errors.Join(fmt.Errorf("read %s: no %s", name, key), lines.Err())
}
