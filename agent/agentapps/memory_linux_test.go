package agentapps

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryUsage(t *testing.T) {
	const host = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\n"
	tests := []struct {
		name  string
		files map[string]string
		want  Usage
	}{
		{"host", map[string]string{"proc/meminfo": host}, Usage{600 << 10, 1000 << 10}},
		{"version 2 with a limit", map[string]string{
			"proc/meminfo": host, "sys/fs/cgroup/memory.current": "50000\n", "sys/fs/cgroup/memory.max": "100000\n",
			"sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 20000\n",
		}, Usage{30000, 100000}},
		{"version 2 without a limit", map[string]string{
			"proc/meminfo": host, "sys/fs/cgroup/memory.current": "50000\n", "sys/fs/cgroup/memory.max": "max\n",
			"sys/fs/cgroup/memory.stat": "inactive_file 60000\n",
		}, Usage{0, 1000 << 10}},
		{"version 1 without a limit", map[string]string{
			"proc/meminfo": host, "sys/fs/cgroup/memory/memory.usage_in_bytes": "50000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.stat":           "inactive_file 1\ntotal_inactive_file 20000\n",
		}, Usage{30000, 1000 << 10}},
		{"garbage in the group's files", map[string]string{
			"proc/meminfo": host, "sys/fs/cgroup/memory.current": "many\n", "sys/fs/cgroup/memory.stat": "inactive_file x\n",
		}, Usage{600 << 10, 1000 << 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for name, text := range tt.files {
				name = filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := memoryUsage(root)
			if err != nil || got != tt.want {
				t.Errorf("usage %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
	if _, err := memoryUsage(t.TempDir()); err == nil {
		t.Error("memory was found in an empty directory")
	}
	if u, err := memoryUsage("/"); err != nil || u.Total <= 0 || u.Used > u.Total {
		t.Errorf("this machine: %+v, %v", u, err)
	}
}
