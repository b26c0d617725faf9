package agentssh

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/worktally/worktally/agent/stats"
)

// The displays that sessions may get: TCP ports 6010 to 6200.
const (
	x11BasePort  = 6000
	firstDisplay = 10
	lastDisplay  = 200
	// maxEvictions is how many sessions may lose their display for a new one.
	maxEvictions = 10
)

// displays are the X11 displays of all sessions of a server.
type displays struct {
	mu    sync.Mutex // guards everything below
	inUse map[int]*display
}

// display is one X11 listener.
type display struct {
	number   int
	listener net.Listener
	used     time.Time // guarded by displays.mu
	evict    func()
}

// open takes the first free display. When there is none the session whose
// display was not used for longest loses it.
func (d *displays) open(evict func()) (*display, error) {
	for range maxEvictions + 1 {
		d.mu.Lock()
		got, err := d.openLocked(evict)
		var oldest *display
		if err != nil {
			for _, x := range d.inUse {
				if oldest == nil || x.used.Before(oldest.used) {
					oldest = x
				}
			}
		}
		if oldest != nil {
			delete(d.inUse, oldest.number)
			oldest.listener.Close()
		}
		d.mu.Unlock()
		if err == nil || oldest == nil {
			return got, err
		}
		oldest.evict()
	}
	return nil, errors.New("no free display")
}

func (d *displays) openLocked(evict func()) (*display, error) {
	for n := firstDisplay; n <= lastDisplay; n++ {
		if d.inUse[n] != nil {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("localhost", strconv.Itoa(x11BasePort+n)))
		if err != nil {
			continue // somebody else's
		}
		x := &display{number: n, listener: l, used: time.Now(), evict: evict}
		d.inUse[n] = x
		return x, nil
	}
	return nil, errors.New("no free display")
}

func (d *displays) touch(x *display) {
	d.mu.Lock()
	x.used = time.Now()
	d.mu.Unlock()
}

func (d *displays) close(x *display) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inUse[x.number] == x {
		delete(d.inUse, x.number)
	}
	x.listener.Close()
}

// forwardX11 opens a display that leads to the client's and returns its name.
func (s *session) forwardX11() (string, error) {
	srv := s.c.srv
	host, err := os.Hostname()
	if err != nil {
		srv.o.Tally.X11Failed(stats.X11Hostname)
		return "", fmt.Errorf("find the name of this host: %w", err)
	}
	x, err := srv.displays.open(func() { s.cancel(errEvicted) })
	if err != nil {
		srv.o.Tally.X11Failed(stats.X11Listen)
		return "", err
	}
	s.cleanups = append(s.cleanups, func() { srv.displays.close(x) })
	if err := s.authorizeX11(host, x.number); err != nil {
		srv.o.Tally.X11Failed(stats.X11Xauthority)
		return "", err
	}
	s.c.wg.Go(func() {
		s.c.relay(x.listener, s.x11.SingleConnection, func(nc net.Conn) (string, []byte) {
			srv.displays.touch(x)
			origin, _ := nc.RemoteAddr().(*net.TCPAddr)
			return "x11", ssh.Marshal(x11OpenPayload{origin.IP.String(), uint32(origin.Port)})
		})
	})
	return fmt.Sprintf("localhost:%d.%d", x.number, s.x11.Screen), nil
}

// authorizeX11 writes the client's cookie where X programs look for it.
func (s *session) authorizeX11(host string, number int) error {
	home, err := s.c.srv.o.Commands.Home()
	if err != nil {
		return err
	}
	cookie, err := hex.DecodeString(s.x11.Cookie)
	if err != nil {
		return fmt.Errorf("read the client's cookie: %w", err)
	}
	return addXauthority(s.ctx, filepath.Join(home, ".Xauthority"), xauthEntry{
		family: familyLocal, address: host, number: strconv.Itoa(number),
		name: s.x11.Protocol, data: string(cookie),
	})
}
