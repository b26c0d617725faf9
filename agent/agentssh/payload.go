package agentssh

import "golang.org/x/crypto/ssh"

// The payloads of requests and channels, as RFC 4254 and OpenSSH's PROTOCOL
// document lay them out. ssh.Unmarshal refuses what is too short or too long.
type (
	ptyPayload struct {
		Term                      string
		Cols, Rows, Width, Height uint32
		Modes                     string
	}
	windowPayload struct{ Cols, Rows, Width, Height uint32 }
	envPayload    struct{ Name, Value string }
	textPayload   struct{ Text string } // exec, subsystem, signal, streamlocal-forward
	x11Payload    struct {
		SingleConnection bool
		Protocol, Cookie string
		Screen           uint32
	}
	exitPayload   struct{ Status uint32 }
	directPayload struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	directUnixPayload struct {
		Path, Reserved string
		ReservedNumber uint32
	}
	listenPayload struct {
		Addr string
		Port uint32
	}
	portPayload      struct{ Port uint32 }
	forwardedPayload struct {
		Addr       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	forwardedUnixPayload struct {
		Path     string
		Reserved string
	}
	x11OpenPayload struct {
		Origin     string
		OriginPort uint32
	}
)

// parse reads a payload into a new T; ok is false if it does not fit.
func parse[T any](payload []byte) (v T, ok bool) {
	err := ssh.Unmarshal(payload, &v)
	return v, err == nil
}

// clamp brings a size of the wire into what a terminal can have.
func clamp(n uint32) uint16 { return uint16(min(n, 1<<16-1)) }
