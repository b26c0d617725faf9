package agentnet

import (
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"

	"github.com/worktally/worktally/wire"
)

// listeningPort is one port that something in the workspace listens on.
type listeningPort struct {
	ProcessName string `json:"process_name"`
	Network     string `json:"network"`
	Port        uint16 `json:"port"`
}

// scanEvery is how long a scan is good for.
const scanEvery = time.Second

// portScanner lists listening ports, at most once a second.
type portScanner struct {
	hidden func() []uint16
	root   string

	mu    sync.Mutex
	at    time.Time
	ports []listeningPort
	err   error
}

func (s *portScanner) serve(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	if time.Since(s.at) >= scanEvery {
		s.ports, s.err = s.scan()
		s.at = time.Now()
	}
	ports, err := s.ports, s.err
	s.mu.Unlock()
	if err != nil {
		wire.WriteError(w, http.StatusInternalServerError, wire.Error{Message: "Could not scan for listening ports.", Detail: err.Error()})
		return
	}
	wire.WriteJSON(w, http.StatusOK, map[string]any{"ports": ports})
}

// tcpListen is the state of a listening socket in /proc/net/tcp.
const tcpListen = 10

// scan reads the IPv4 sockets; a system without procfs has none.
func (s *portScanner) scan() ([]listeningPort, error) {
	ports := []listeningPort{}
	if _, err := filepath.Glob(s.root); err != nil {
		return ports, nil
	}
	fs, err := procfs.NewFS(s.root)
	if err != nil {
		return ports, nil
	}
	sockets, err := fs.NetTCP()
	if err != nil {
		return nil, err
	}
	var hidden []uint16
	if s.hidden != nil {
		hidden = s.hidden()
	}
	for _, socket := range sockets {
		port := uint16(socket.LocalPort)
		known := slices.ContainsFunc(ports, func(p listeningPort) bool { return p.Port == port })
		if socket.St != tcpListen || port < FirstFreePort || slices.Contains(hidden, port) || known {
			continue
		}
		ports = append(ports, listeningPort{Network: "tcp", Port: port})
	}
	slices.SortFunc(ports, func(a, b listeningPort) int { return int(a.Port) - int(b.Port) })
	return ports, nil
}
