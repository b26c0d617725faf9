package agentnet

import (
	"fmt"
	"net"
	"net/http"

	"github.com/worktally/worktally/wire"
)

// NetInfo is what clients want to know about an agent's network; the names are
// those that they read (contract tailnet.md section 7.1). A nil value is unknown.
type NetInfo struct {
	MappingVariesByDestIP *bool
	WorkingIPv6           *bool
	OSHasIPv6             *bool
	WorkingUDP            *bool
	PreferredDERP         int
	DERPLatency           map[string]float64
	UDP                   bool
	IPv4                  bool
	IPv6                  bool
	GlobalV4, GlobalV6    string
}

type severity struct {
	Severity  string    `json:"severity"`
	Warnings  []warning `json:"warnings"`
	Dismissed bool      `json:"dismissed"`
}

type warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// smallMTU is what a packet of the tunnel needs; clients warn below it (contract
// tailnet.md section 7.1).
const smallMTU = 1378

type netInterface struct {
	Name      string   `json:"name"`
	MTU       int      `json:"mtu"`
	Addresses []string `json:"addresses"`
}

// serveNetcheck answers what "ping" shows; net_info is never null, because
// clients look into it.
func serveNetcheck(w http.ResponseWriter, netcheck func() NetInfo) {
	info := NetInfo{}
	if netcheck != nil {
		info = netcheck()
	}
	list := interfaces()
	links := severity{Severity: "ok"}
	for _, i := range list {
		if i.MTU > 0 && i.MTU < smallMTU {
			links.Severity = "warning"
			links.Warnings = append(links.Warnings, warning{"EIF01", fmt.Sprintf("Network interface %s has the MTU %d, less than %d: direct connections may be slow.", i.Name, i.MTU, smallMTU)})
		}
	}
	wire.WriteJSON(w, http.StatusOK, struct {
		severity
		NetInfo    NetInfo `json:"net_info"`
		Interfaces any     `json:"interfaces"`
	}{severity{Severity: links.Severity}, info, struct {
		severity
		Interfaces []netInterface `json:"interfaces"`
	}{links, list}})
}

// interfaces lists those that are up and have an address beyond the link.
func interfaces() []netInterface {
	list := []netInterface{}
	all, err := net.Interfaces()
	if err != nil {
		return list
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagUp == 0 || len(addrs) == 0 {
			continue
		}
		n := netInterface{Name: i.Name, MTU: i.MTU}
		useful := false
		for _, a := range addrs {
			n.Addresses = append(n.Addresses, a.String())
			ip, ok := a.(*net.IPNet)
			useful = useful || ok && !ip.IP.IsLinkLocalUnicast()
		}
		if useful {
			list = append(list, n)
		}
	}
	return list
}
