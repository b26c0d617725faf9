package agentapi

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// hijacked hands over a connection of which something was read already.
type hijacked struct {
	http.ResponseWriter
	conn  net.Conn
	ahead string
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	r := bufio.NewReader(io.MultiReader(strings.NewReader(h.ahead), h.conn))
	_, err := r.Peek(len(h.ahead))
	return h.conn, bufio.NewReadWriter(r, bufio.NewWriter(h.conn)), err
}

// TestSlim_LosesNothing: what came with the request is still there, and counts as
// buffered, for whoever takes the connection over resets the reader.
func TestSlim_LosesNothing(t *testing.T) {
	for _, ahead := range []string{"", "a", strings.Repeat("abc", 1000)} {
		near, far := net.Pipe()
		_, rw, err := slim{hijacked{conn: near, ahead: ahead}}.Hijack()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := rw.Reader.Peek(rw.Reader.Buffered()); string(got) != ahead || err != nil {
			t.Errorf("%d bytes are buffered, not %d: %v", len(got), len(ahead), err)
		}
		go func() {
			_, _ = far.Write([]byte("later"))
			_ = far.Close()
		}()
		if got, err := io.ReadAll(rw.Reader); string(got) != ahead+"later" || err != nil {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		_ = near.Close()
	}
}
