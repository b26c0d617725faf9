package durable

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"
)

// Every file begins with 16 bytes: "wtally", the kind of the file, 0, the format of
// the payloads as a little-endian uint16, and 0s. All other numbers are
// little-endian too.
const (
	magic      = "wtally"
	headerSize = 16
	kindSlot   = 'S'
	kindLog    = 'L'
)

func appendHeader(b []byte, kind byte, format uint16) []byte {
	b = append(b, magic...)
	b = append(b, kind, 0)
	b = binary.LittleEndian.AppendUint16(b, format)
	return append(b, make([]byte, headerSize-len(magic)-4)...)
}

// errDamaged: the bytes are not what was written.
var errDamaged = errors.New("damaged")

// formatError: the file was written by another version of the program.
type formatError uint16

func (e formatError) Error() string { return fmt.Sprintf("format %d", uint16(e)) }

func checkHeader(b []byte, kind byte, format uint16) error {
	if len(b) < headerSize || string(b[:len(magic)]) != magic || b[6] != kind || b[7] != 0 {
		return errDamaged
	}
	if got := binary.LittleEndian.Uint16(b[8:]); got != format {
		return formatError(got)
	}
	return nil
}

func checksum(parts ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once, by the library
	sum := uint32(0)
	for _, p := range parts {
		sum = crc32.Update(sum, table, p)
	}
	return sum
}

// Aside says that a file could not be read and was renamed.
type Aside struct {
	// Name is the file's new name, without the directory.
	Name string
	// Err is why.
	Err error
}

// maxAside bounds the files set aside in a directory; older ones go.
const maxAside = 16

// setAside renames a file, best effort: what cannot be renamed stays.
func setAside(fs FS, dir, name string, why error) Aside {
	const mark = ".aside-"
	taken := make(map[string]bool)
	count := 0
	names, _ := fs.List(dir)
	for _, n := range names {
		taken[n] = true
		if strings.Contains(n, mark) {
			count++
			if count > maxAside {
				_ = fs.Remove(filepath.Join(dir, n))
			}
		}
	}
	label := "damaged"
	var format formatError
	if errors.As(why, &format) {
		label = fmt.Sprintf("format-%d", uint16(format))
	}
	target := name + mark + label
	for i := 2; taken[target] && i < maxAside; i++ {
		target = fmt.Sprintf("%s%s%s-%d", name, mark, label, i)
	}
	if err := fs.Rename(filepath.Join(dir, name), filepath.Join(dir, target)); err != nil {
		return Aside{Name: name, Err: errors.Join(why, err)}
	}
	_ = fs.SyncDir(dir)
	return Aside{Name: target, Err: why}
}

// maxFile bounds what is read of one file.
const maxFile = 16 << 20

func readFile(f File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > maxFile {
		return nil, fmt.Errorf("%w: %d bytes long", errDamaged, size)
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("read %d of %d bytes: %w", n, size, err)
	}
	return b, nil
}
