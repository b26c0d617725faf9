package coordinator

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/worktally/worktally/wire/tailnetpb"
)

// Agent returns the Tailnet service for a session of an agent. end ends that
// session; it is called if the agent does not read its updates.
func (c *Coordinator) Agent(id uuid.UUID, end context.CancelCauseFunc) tailnetpb.DRPCTailnetServer {
	return c.Peer(id, AgentAuth{AgentID: id}, end)
}

// Peer returns the Tailnet service for a session of any peer.
func (c *Coordinator) Peer(id uuid.UUID, auth Auth, end context.CancelCauseFunc) tailnetpb.DRPCTailnetServer {
	return &service{c: c, id: id, auth: auth, end: end}
}

// service is the Tailnet service of one peer. Calls it does not serve answer
// code 12; a client that is told so stops sending telemetry.
type service struct {
	tailnetpb.DRPCTailnetUnimplementedServer
	c    *Coordinator
	id   uuid.UUID
	auth Auth
	end  context.CancelCauseFunc
}

// mapCheck is how often the relay map is compared with the one last sent.
const mapCheck = 5 * time.Second

// StreamDERPMaps sends the relay map, and again when it has changed. The stream
// stays open: its end would end the peer's session.
func (s *service) StreamDERPMaps(_ *tailnetpb.StreamDERPMapsRequest, stream tailnetpb.DRPCTailnet_StreamDERPMapsStream) error {
	defer stream.Close() // there is nobody left to tell
	tick := time.NewTicker(mapCheck)
	defer tick.Stop()
	var sent *tailnetpb.DERPMap
	for {
		if m := s.c.o.DERPMap(); sent == nil || !proto.Equal(sent, m) {
			if err := stream.Send(m); err != nil {
				return err
			}
			sent = m
		}
		select {
		case <-tick.C:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// Coordinate holds the peer's stream.
func (s *service) Coordinate(stream tailnetpb.DRPCTailnet_CoordinateStream) error {
	p, ok := s.c.join(s.id, s.auth, s.end)
	if !ok {
		return errors.New("coordinator closed")
	}
	defer close(p.done)
	var sender sync.WaitGroup
	defer func() {
		sender.Wait()
		if p.ending { // before the peer's own hanging up can be taken for the reason
			p.end(errEnded)
		}
	}()
	// It is gone already, unless a mistake of ours ended receive.
	defer s.c.leave(p, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost", "")
	sender.Go(func() { s.send(stream, p) })
	s.receive(stream, p)
	return nil
}

// send passes on what is queued until the peer is gone, and then closes the
// stream: the peer waits for that.
func (s *service) send(stream tailnetpb.DRPCTailnet_CoordinateStream, p *peer) {
	for r := range p.out {
		if err := stream.Send(r); err != nil {
			s.c.leave(p, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost", "")
			for range p.out { // closed by leave
			}
		}
	}
	// There is nobody left to tell of an error.
	if p.ending {
		_ = stream.CloseSend() // the peer closes the stream when it has read everything
		return
	}
	_ = stream.Close()
}

// receive carries out what the peer asks for until its stream ends, and then
// ends the peer.
func (s *service) receive(stream tailnetpb.DRPCTailnet_CoordinateStream, p *peer) {
	for {
		r, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
				s.c.log.Debug("coordinate stream ended", "peer", s.id, "err", err)
			}
			s.c.leave(p, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost", "")
			return
		}
		switch err := s.c.handle(p, r); {
		case errors.Is(err, errDone):
			s.c.leave(p, tailnetpb.CoordinateResponse_PeerUpdate_DISCONNECTED, "graceful disconnect", "")
			return
		case err != nil:
			s.c.log.Warn("coordination refused", "peer", s.id, "err", err)
			s.c.leave(p, tailnetpb.CoordinateResponse_PeerUpdate_LOST, "lost", err.Error())
			return
		}
	}
}
