package wire

import (
	"fmt"
	"reflect"

	"storj.io/drpc"
)

// Methods are the calls of some services, found once for all sessions: with a
// table of its own each of thousands of sessions would need 10 KB more. It is
// immutable.
type Methods struct{ m map[string]method }

// method is one call.
type method struct {
	service  int
	enc      drpc.Encoding
	receiver drpc.Receiver
	in       reflect.Type // of the request; nil if requests are a stream
}

// NewMethods returns the calls of the services with these descriptions.
func NewMethods(services ...drpc.Description) (*Methods, error) {
	m := &Methods{m: make(map[string]method)}
	for i, d := range services {
		for n := range d.NumMethods() {
			rpc, enc, receiver, f, ok := d.Method(n)
			if !ok {
				return nil, fmt.Errorf("method %d of a service is not described", n)
			}
			m.m[rpc] = method{service: i, enc: enc, receiver: receiver, in: request(reflect.TypeOf(f))}
		}
	}
	return m, nil
}

// request is the type of what a call is asked with. A method's value has its
// receiver first; a context comes before the request unless the answer is a
// stream, and one that takes nothing but a stream has no request.
func request(f reflect.Type) reflect.Type {
	switch {
	case f.NumOut() == 2:
		return f.In(2).Elem()
	case f.NumIn() == 3:
		return f.In(1).Elem()
	}
	return nil
}

// Handler serves the calls with implementations of the services, in the order of
// their descriptions.
func (m *Methods) Handler(implementations ...any) drpc.Handler { return handler{m, implementations} }

type handler struct {
	*Methods
	services []any
}

// HandleRPC implements drpc.Handler.
func (h handler) HandleRPC(stream drpc.Stream, rpc string) error {
	m, ok := h.m[rpc]
	if !ok {
		return drpc.ProtocolError.New("unknown rpc: %q", rpc)
	}
	var in any = stream
	if m.in != nil {
		in = reflect.New(m.in).Interface()
		if err := stream.MsgRecv(in, m.enc); err != nil {
			return err
		}
	}
	out, err := m.receiver(h.services[m.service], stream.Context(), in, stream)
	switch {
	case err != nil:
		return err
	case out != nil && !reflect.ValueOf(out).IsNil():
		if s, ok := stream.(interface{ SetManualFlush(bool) }); ok {
			s.SetManualFlush(true) // it goes out with the end of the answer
		}
		return stream.MsgSend(out, m.enc)
	}
	return stream.CloseSend()
}
