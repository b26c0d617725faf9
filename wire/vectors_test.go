package wire_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/worktally/worktally/internal/vectors"
	_ "github.com/worktally/worktally/wire/agentpb"
	_ "github.com/worktally/worktally/wire/tailnetpb"
)

func newMessage(t *testing.T, name string) proto.Message {
	t.Helper()
	mt, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatal(err)
	}
	return mt.New().Interface()
}

// TestVectors_DecodeAndReencode decodes every recorded message, compares it with
// its JSON form, encodes it again and compares the decoded messages.
func TestVectors_DecodeAndReencode(t *testing.T) {
	index := vectors.Index(t)
	if len(index) == 0 {
		t.Fatal("no vectors")
	}
	for _, e := range index {
		t.Run(e.File, func(t *testing.T) {
			raw := vectors.Read(t, "rpc/"+e.File)
			got := newMessage(t, e.Message)
			if err := proto.Unmarshal(raw, got); err != nil {
				t.Fatal(err)
			}
			if unknown := got.ProtoReflect().GetUnknown(); len(unknown) > 0 {
				t.Fatalf("%d bytes of unknown fields", len(unknown))
			}
			want := newMessage(t, e.Message)
			if err := protojson.Unmarshal(vectors.Read(t, "rpc/"+e.JSON), want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Fatalf("decoded message (-want +got):\n%s", diff)
			}
			again, err := proto.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			reread := newMessage(t, e.Message)
			if err := proto.Unmarshal(again, reread); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, reread, protocmp.Transform()); diff != "" {
				t.Fatalf("re-encoded message (-want +got):\n%s", diff)
			}
		})
	}
}

// TestVectors_SessionHoldsTheMessages takes the raw session apart and finds
// every indexed message at its place.
func TestVectors_SessionHoldsTheMessages(t *testing.T) {
	streams := map[string]map[uint32][]vectors.Packet{}
	for _, direction := range []string{"agent-to-server", "server-to-agent"} {
		s, err := vectors.Streams(vectors.Read(t, "session-"+direction+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		streams[direction] = s
	}
	for _, e := range vectors.Index(t) {
		n := 0
		for _, p := range streams[e.Direction][e.YamuxStream] {
			if p.Kind != vectors.KindMessage {
				continue
			}
			if n++; n == e.Seq && !bytes.Equal(p.Data, vectors.Read(t, "rpc/"+e.File)) {
				t.Errorf("%s differs from the session", e.File)
			}
		}
		if n < e.Seq {
			t.Errorf("%s: message %d of stream %d is missing", e.File, e.Seq, e.YamuxStream)
		}
	}
}
