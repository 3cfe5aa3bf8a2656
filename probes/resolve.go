package probes

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// resolve finds the address to ask: the first one that the resolver prefers
// for this host.
func resolve(ctx context.Context, target wire.ServerURI, service string) (netip.AddrPort, error) {
	started := time.Now()
	refusal := &Refusal{Code: CodeDNSFailed, Step: "resolve " + target.Host, Reason: "no address"}
	host, port, err := net.SplitHostPort(target.Address())
	if err == nil {
		var number uint64
		var addresses []netip.Addr
		if number, err = strconv.ParseUint(port, 10, 16); err == nil {
			addresses, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
		if err == nil && len(addresses) > 0 {
			return netip.AddrPortFrom(addresses[0].Unmap(), uint16(number)), nil
		}
	}
	refusal.After, refusal.Err = time.Since(started), err
	switch {
	case interrupted(ctx):
		refusal.Code, refusal.Reason, refusal.Err = service+".interrupted", "no answer", context.Cause(ctx)
	case ctx.Err() != nil:
		refusal.Reason, refusal.Err = "no answer", nil
	}
	return netip.AddrPort{}, refusal
}
