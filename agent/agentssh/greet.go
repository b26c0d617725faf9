package agentssh

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/worktally/worktally/agent/stats"
	"github.com/worktally/worktally/internal/smallfile"
)

// maxMOTD bounds how much of the message of the day is shown.
const maxMOTD = 1 << 20

// greet shows the announcements and the message of the day at login.
func (s *session) greet() {
	commands := s.c.srv.o.Commands
	if err := writeBanners(s.ch, s.c.srv.o.Banners()); err != nil {
		s.tally.Failed(stats.ErrAnnouncementBanner)
		s.c.log.Debug("announcement", "err", err)
	}
	path := commands.ExpandPath(commands.Settings().MOTDFile)
	if path == "" {
		return
	}
	if home, err := commands.Home(); err == nil {
		if _, err := os.Stat(filepath.Join(home, ".hushlogin")); err == nil {
			return
		}
	}
	if err := writeMOTD(s.ch, path); err != nil {
		s.tally.Failed(stats.ErrMOTD)
		s.c.log.Warn("message of the day", "err", err)
	}
}

// writeBanners writes the announcements, each followed by a blank line. There is
// no terminal yet that would make line ends of line feeds.
func writeBanners(w io.Writer, banners []Banner) error {
	for _, b := range banners {
		text := strings.TrimSpace(b.Message)
		if !b.Enabled || text == "" {
			continue
		}
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
		if _, err := fmt.Fprintf(w, "%s\r\n\r\n", text); err != nil {
			return fmt.Errorf("write an announcement: %w", err)
		}
	}
	return nil
}

func writeMOTD(w io.Writer, path string) error {
	f, err := smallfile.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxMOTD))
	lines.Buffer(nil, maxMOTD)
	for lines.Scan() {
		if _, err := fmt.Fprintf(w, "%s\r\n", lines.Text()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
