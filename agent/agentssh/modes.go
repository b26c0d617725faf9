package agentssh

import (
	"encoding/binary"

	"golang.org/x/crypto/ssh"
)

// mode is one encoded terminal mode of RFC 4254 section 8.
type mode struct {
	opcode byte
	value  uint32
}

// firstUndefined is the opcode from which on the length of the argument is
// unknown, so that nothing behind it can be read.
const firstUndefined = 160

// parseModes reads encoded terminal modes up to the end mark. What is cut off is
// left out: modes are a wish, not a condition.
func parseModes(b []byte) []mode {
	var modes []mode
	for len(b) >= 5 && b[0] != 0 && b[0] < firstUndefined {
		modes = append(modes, mode{b[0], binary.BigEndian.Uint32(b[1:])})
		b = b[5:]
	}
	return modes
}

// noCharacter is the value of a control character that is switched off.
const noCharacter = 255

// isSpeed says whether a mode is one of the line speeds.
func (m mode) isSpeed() bool {
	return m.opcode == ssh.TTY_OP_ISPEED || m.opcode == ssh.TTY_OP_OSPEED
}
