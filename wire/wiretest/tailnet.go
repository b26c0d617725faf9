package wiretest

import (
	"context"

	"google.golang.org/protobuf/proto"
	"storj.io/drpc"

	"github.com/worktally/worktally/wire/agentpb"
	"github.com/worktally/worktally/wire/tailnetpb"
)

const tailnetService = "/coder.tailnet.v2.Tailnet/"

// tailnet serves the streams of the Tailnet service to an agent that has no
// peers: one relay map, and a coordination in which nothing happens until the
// agent takes its leave. ok is false for any other call.
func (h *session) tailnet(stream drpc.Stream, rpc string) (ok bool, err error) {
	var d tailnetpb.DRPCTailnetDescription
	_, enc, _, _, _ := d.Method(0)
	switch rpc {
	case tailnetService + "StreamDERPMaps":
		request := &tailnetpb.StreamDERPMapsRequest{}
		if err := stream.MsgRecv(request, enc); err != nil {
			return true, err
		}
		h.s.record(Call{Session: h.number, Name: "StreamDERPMaps", Request: request})
		if err := stream.MsgSend(h.s.relayMap(stream.Context()), enc); err != nil {
			return true, err
		}
		<-stream.Context().Done()
		return true, stream.Context().Err()
	case tailnetService + "Coordinate":
		for {
			request := &tailnetpb.CoordinateRequest{}
			if err := stream.MsgRecv(request, enc); err != nil {
				return true, err
			}
			h.s.record(Call{Session: h.number, Name: "Coordinate", Request: request})
			if request.GetDisconnect() != nil {
				return true, stream.Close()
			}
		}
	}
	return false, nil
}

// relayMap is the manifest's.
func (s *Service) relayMap(ctx context.Context) proto.Message {
	s.mu.Lock()
	handler := s.handlers["GetManifest"]
	s.mu.Unlock()
	response, err := handler(ctx, &agentpb.GetManifestRequest{})
	if m, ok := response.(*agentpb.Manifest); ok && err == nil && m.GetDerpMap() != nil {
		return m.GetDerpMap()
	}
	return &tailnetpb.DERPMap{HomeParams: &tailnetpb.DERPMap_HomeParams{}}
}
