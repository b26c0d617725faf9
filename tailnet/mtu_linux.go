package tailnet

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// pathMTU returns what the system knows of the path to an address: the interface's
// limit, or a lower one that a router has told (RFC 1191, RFC 8201). It sends
// nothing.
func pathMTU(remote netip.AddrPort) (mtu int, err error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if remote.Addr().Unmap().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	controlErr := raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), level, option) })
	if controlErr != nil {
		return 0, controlErr
	}
	return mtu, err
}
