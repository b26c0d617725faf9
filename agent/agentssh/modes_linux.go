package agentssh

import (
	"fmt"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// controlCharacters are the indexes of the opcodes of control characters.
func controlCharacters() map[byte]int {
	return map[byte]int{
		ssh.VINTR: unix.VINTR, ssh.VQUIT: unix.VQUIT, ssh.VERASE: unix.VERASE, ssh.VKILL: unix.VKILL,
		ssh.VEOF: unix.VEOF, ssh.VEOL: unix.VEOL, ssh.VEOL2: unix.VEOL2, ssh.VSTART: unix.VSTART,
		ssh.VSTOP: unix.VSTOP, ssh.VSUSP: unix.VSUSP, ssh.VREPRINT: unix.VREPRINT, ssh.VWERASE: unix.VWERASE,
		ssh.VLNEXT: unix.VLNEXT, ssh.VSWTCH: unix.VSWTC, ssh.VDISCARD: unix.VDISCARD,
	}
}

// inputFlags are the bits of the opcodes that switch something in the input word.
func inputFlags() map[byte]uint32 {
	return map[byte]uint32{
		ssh.IGNPAR: unix.IGNPAR, ssh.PARMRK: unix.PARMRK, ssh.INPCK: unix.INPCK, ssh.ISTRIP: unix.ISTRIP,
		ssh.INLCR: unix.INLCR, ssh.IGNCR: unix.IGNCR, ssh.ICRNL: unix.ICRNL, ssh.IUCLC: unix.IUCLC,
		ssh.IXON: unix.IXON, ssh.IXANY: unix.IXANY, ssh.IXOFF: unix.IXOFF, ssh.IMAXBEL: unix.IMAXBEL,
		ssh.IUTF8: unix.IUTF8,
	}
}

func localFlags() map[byte]uint32 {
	return map[byte]uint32{
		ssh.ISIG: unix.ISIG, ssh.ICANON: unix.ICANON, ssh.XCASE: unix.XCASE, ssh.ECHO: unix.ECHO,
		ssh.ECHOE: unix.ECHOE, ssh.ECHOK: unix.ECHOK, ssh.ECHONL: unix.ECHONL, ssh.NOFLSH: unix.NOFLSH,
		ssh.TOSTOP: unix.TOSTOP, ssh.IEXTEN: unix.IEXTEN, ssh.ECHOCTL: unix.ECHOCTL, ssh.ECHOKE: unix.ECHOKE,
		ssh.PENDIN: unix.PENDIN,
	}
}

func outputFlags() map[byte]uint32 {
	return map[byte]uint32{
		ssh.OPOST: unix.OPOST, ssh.OLCUC: unix.OLCUC, ssh.ONLCR: unix.ONLCR, ssh.OCRNL: unix.OCRNL,
		ssh.ONOCR: unix.ONOCR, ssh.ONLRET: unix.ONLRET,
	}
}

func controlFlags() map[byte]uint32 {
	return map[byte]uint32{ssh.CS7: unix.CS7, ssh.CS8: unix.CS8, ssh.PARENB: unix.PARENB, ssh.PARODD: unix.PARODD}
}

// speeds are the line speeds that a terminal can have, by bits per second.
func speeds() map[uint32]uint32 {
	return map[uint32]uint32{
		50: unix.B50, 75: unix.B75, 110: unix.B110, 134: unix.B134, 150: unix.B150, 200: unix.B200,
		300: unix.B300, 600: unix.B600, 1200: unix.B1200, 1800: unix.B1800, 2400: unix.B2400,
		4800: unix.B4800, 9600: unix.B9600, 19200: unix.B19200, 38400: unix.B38400, 57600: unix.B57600,
		115200: unix.B115200, 230400: unix.B230400,
	}
}

// ibshift is where the input speed is in the control word (IBSHIFT of termbits.h).
const ibshift = 16

// applyModes sets the modes on a terminal; those that it does not know are left
// alone.
func applyModes(fd int, encoded []byte) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("read terminal modes: %w", err)
	}
	characters := controlCharacters()
	words := []struct {
		bits map[byte]uint32
		word *uint32
	}{{inputFlags(), &t.Iflag}, {localFlags(), &t.Lflag}, {outputFlags(), &t.Oflag}, {controlFlags(), &t.Cflag}}
	for _, m := range parseModes(encoded) {
		if m.isSpeed() {
			setSpeed(t, m)
			continue
		}
		if i, ok := characters[m.opcode]; ok {
			t.Cc[i] = byte(m.value)
			if m.value == noCharacter {
				t.Cc[i] = 0
			}
			continue
		}
		for _, w := range words {
			if bits, ok := w.bits[m.opcode]; ok && m.value != 0 {
				*w.word |= bits
			} else if ok {
				*w.word &^= bits
			}
		}
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("set terminal modes: %w", err)
	}
	return nil
}

func setSpeed(t *unix.Termios, m mode) {
	code, ok := speeds()[m.value]
	if !ok {
		return
	}
	if m.opcode == ssh.TTY_OP_OSPEED {
		t.Cflag = t.Cflag&^unix.CBAUD | code
		t.Ospeed = m.value
		return
	}
	t.Cflag = t.Cflag&^(unix.CBAUD<<ibshift) | code<<ibshift
	t.Ispeed = m.value
}
