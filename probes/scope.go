package probes

import (
	"fmt"
	"net/netip"
)

// shared is the address space of carrier-grade NAT, RFC 6598.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// isPublic tells whether hosts anywhere can reach an address.
func isPublic(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !shared.Contains(a)
}

// public tells whether the server is reached by a public address.
func (r *relayRun) public() bool {
	if literal, err := netip.ParseAddr(r.Target.Host); err == nil {
		return isPublic(literal)
	}
	return isPublic(r.client.socket.server.Addr())
}

// privateRelay finds a relayed address that the users of a public server
// cannot reach.
func (r *relayRun) privateRelay() (Finding, bool) {
	relayed := r.client.relayed
	if !r.public() || !relayed.IsValid() || isPublic(relayed.Addr()) {
		return Finding{}, false
	}
	return newFinding(CodeAddressPrivate, fmt.Sprintf("%s, on a server reached as %s", relayed, r.Target.Host), r.client.facts()...), true
}

// gateway finds a public server that takes us for a private host which we are
// not: something in front of it rewrites source addresses.
func (r *relayRun) gateway() (Finding, bool) {
	mapped := r.client.mapped
	if !r.public() || !mapped.IsValid() || isPublic(mapped.Addr()) || mapped.Addr() == r.client.socket.local().Addr() {
		return Finding{}, false
	}
	return newFinding(CodeMappedGateway, fmt.Sprintf("it sees this host as %s", mapped), r.client.facts()...), true
}
