package agentnet

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/worktally/worktally/wire"
)

const maxDirectoryRequest = 64 << 10

type directoryEntry struct {
	Name               string `json:"name"`
	AbsolutePathString string `json:"absolute_path_string"`
	IsDir              bool   `json:"is_dir"`
}

// listDirectory lists a directory for desktop tools (contract tailnet.md 7.2).
func listDirectory(w http.ResponseWriter, r *http.Request, home string) {
	var request struct {
		Path       []string `json:"path"`
		Relativity string   `json:"relativity"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxDirectoryRequest)).Decode(&request); err != nil {
		wire.WriteError(w, http.StatusBadRequest, wire.Error{Message: "The request is no valid JSON.", Detail: err.Error()})
		return
	}
	answer, err := readDirectory(request.Path, request.Relativity, home)
	status := http.StatusInternalServerError
	switch {
	case err == nil:
		wire.WriteJSON(w, http.StatusOK, answer)
		return
	case errors.Is(err, fs.ErrNotExist):
		status = http.StatusNotFound
	case errors.Is(err, fs.ErrPermission):
		status = http.StatusForbidden
	}
	wire.WriteError(w, status, wire.Error{Message: "Could not list the directory.", Detail: err.Error()})
}

func readDirectory(path []string, relativity, home string) (map[string]any, error) {
	base := string(filepath.Separator)
	switch relativity {
	case "root":
	case "home":
		if base = home; base == "" {
			var err error
			if base, err = os.UserHomeDir(); err != nil {
				return nil, err
			}
		}
	default:
		return nil, fmt.Errorf("unknown relativity %q", relativity)
	}
	dir := filepath.Join(append([]string{base}, path...)...)
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	entries := make([]directoryEntry, 0, len(list))
	for _, e := range list {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		entries = append(entries, directoryEntry{e.Name(), filepath.Join(dir, e.Name()), err == nil && info.IsDir()})
	}
	slices.SortFunc(entries, func(a, b directoryEntry) int {
		if a.IsDir != b.IsDir {
			if a.IsDir {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	parts := strings.FieldsFunc(filepath.ToSlash(dir), func(r rune) bool { return r == '/' })
	return map[string]any{"absolute_path": slices.Concat([]string{}, parts), "absolute_path_string": dir, "contents": entries}, nil
}
