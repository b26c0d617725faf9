package controlapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/worktally/worktally/server/catalog"
)

// byteOrderMark begins the files of some editors.
const byteOrderMark = "\ufeff"

// maxItem bounds one item of an import, in bytes.
const maxItem = 256 << 10

// errItemTooBig: an item has more than maxItem bytes.
var errItemTooBig = fmt.Errorf("the item has more than %d KiB", maxItem>>10)

// itemReader reads the items of an import one by one: a line each, or the elements
// of one JSON array if the first character is "[".
type itemReader struct {
	in    *bufio.Reader
	array *json.Decoder // nil for lines
	// budget is what the array's decoder may still read for the current item.
	budget int
	// number is that of the last line or element read, from 1.
	number int
	buf    []byte
}

func newItemReader(r io.Reader) (*itemReader, error) {
	ir := &itemReader{in: bufio.NewReaderSize(r, 64<<10)}
	if mark, _ := ir.in.Peek(len(byteOrderMark)); string(mark) == byteOrderMark {
		_, _ = ir.in.Discard(len(byteOrderMark)) // it is there
	}
	for {
		c, err := ir.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF):
			return ir, nil
		case err != nil:
			return nil, err
		case c == '\n':
			ir.number++
			continue
		case c == ' ' || c == '\t' || c == '\r':
			continue
		}
		if err := ir.in.UnreadByte(); err != nil {
			return nil, err
		}
		if c != '[' {
			return ir, nil
		}
		ir.number = 0
		ir.array = json.NewDecoder(ir)
		ir.budget = maxItem
		_, err = ir.array.Token() // the bracket
		return ir, err
	}
}

// Read feeds the array's decoder no more than an item may have, so that it cannot
// be made to hold more.
func (ir *itemReader) Read(p []byte) (int, error) {
	if ir.budget <= 0 {
		return 0, errItemTooBig
	}
	n, err := ir.in.Read(p[:min(len(p), ir.budget)])
	ir.budget -= n
	return n, err
}

// next returns the next item. An itemError is about this one alone, io.EOF the end,
// and any other error ends the import.
func (ir *itemReader) next() (item catalog.ImportItem, err error) {
	var text []byte
	if ir.array != nil {
		text, err = ir.element()
	} else {
		text, err = ir.line()
	}
	if err != nil {
		return item, err
	}
	if err := unmarshal(text, &item); err != nil {
		return item, itemError{err}
	}
	return item, nil
}

// itemError is about one item.
type itemError struct{ error }

// element returns the next element of the array. What is no JSON ends the import:
// there is no telling where the next element begins.
func (ir *itemReader) element() ([]byte, error) {
	ir.budget = maxItem
	if !ir.array.More() {
		if _, err := ir.array.Token(); err != nil { // the closing bracket
			return nil, noEOF(err)
		}
		if _, err := ir.array.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("something follows the array")
		}
		return nil, io.EOF
	}
	ir.number++
	var text json.RawMessage
	err := noEOF(ir.array.Decode(&text))
	if err == nil && len(text) > maxItem { // part of it was read with the one before
		err = itemError{errItemTooBig}
	}
	return text, err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// line returns the next line that is not blank. One that is too long is skipped.
func (ir *itemReader) line() ([]byte, error) {
	for {
		ir.number++
		ir.buf = ir.buf[:0]
		tooLong := false
		part, err := ir.in.ReadSlice('\n')
		for ; errors.Is(err, bufio.ErrBufferFull); part, err = ir.in.ReadSlice('\n') {
			if tooLong = tooLong || len(ir.buf)+len(part) > maxItem; !tooLong {
				ir.buf = append(ir.buf, part...)
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if tooLong || len(ir.buf)+len(part) > maxItem {
			return nil, itemError{errItemTooBig}
		}
		ir.buf = append(ir.buf, part...)
		if text := bytes.TrimSpace(ir.buf); len(text) > 0 {
			return text, nil
		}
		if err != nil {
			return nil, io.EOF
		}
	}
}
