package probes

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const (
	srvPatience = time.Second // a resolver that answers no SRV queries must not use up the probe's time
	maxSRV      = 8           // names followed of one SRV answer
	maxEndpoint = 16          // addresses of one target
)

// Resolver finds names; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
}

// Endpoints finds every address of a STUN or TURN server, in the order in
// which clients try them. Without a port the SRV records of the host decide
// (RFC 5928 section 3, RFC 8489 section 8.1), and the default port where there
// are none. A nil resolver is that of this host; it has as long to answer as a
// server has. The error is a *Refusal.
func Endpoints(ctx context.Context, resolver Resolver, target wire.ServerURI) ([]netip.AddrPort, error) {
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	ctx, cancel := QuickSchedule().bounded(ctx, 0)
	defer cancel()
	l := lookup{Resolver: resolver, target: target, started: time.Now()}
	found, err := l.endpoints(ctx)
	if err == nil && len(found) == 0 {
		err = errors.New("no address")
	}
	if err != nil {
		return nil, l.refusal(ctx, err)
	}
	return found[:min(len(found), maxEndpoint)], nil
}

// Routable tells whether this host has a route to an address. Nothing is sent.
func Routable(address netip.AddrPort) bool {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(address))
	if err == nil {
		_ = conn.Close()
	}
	return !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EADDRNOTAVAIL)
}

// resolve gives the first address of a target.
func resolve(ctx context.Context, target wire.ServerURI, service string) (netip.AddrPort, error) {
	found, err := Endpoints(ctx, nil, target)
	if err != nil {
		if refusalCode(err) == CodeProbeInterrupted {
			err = withCode(err, service+".interrupted")
		}
		return netip.AddrPort{}, err
	}
	return found[0], nil
}

// lookup is one search for the addresses of a target.
type lookup struct {
	Resolver
	target  wire.ServerURI
	started time.Time
}

var errNotOffered = errors.New(`its SRV record "." says that it offers no such service`)

// endpoints asks for SRV records and addresses at the same time: most servers
// have no SRV records, and nobody shall wait for that answer first.
func (l *lookup) endpoints(ctx context.Context) ([]netip.AddrPort, error) {
	port := uint16(l.target.EffectivePort())
	if address, err := netip.ParseAddr(l.target.Host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(address.Unmap(), port)}, nil
	}
	if l.target.Port != 0 {
		return l.addresses(ctx, l.target.Host, port)
	}
	var direct []netip.AddrPort
	var errDirect error
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); <-done }()
	go func() {
		defer close(done)
		direct, errDirect = l.addresses(ctx, l.target.Host, port)
	}()
	found, err := l.srv(ctx)
	if len(found) > 0 || errors.Is(err, errNotOffered) {
		return found, err
	}
	<-done
	if errDirect != nil && err != nil {
		return nil, err // there are SRV records, and they lead nowhere
	}
	return direct, errDirect
}

// srv follows the SRV records. Nil without an error means that there are none.
func (l *lookup) srv(ctx context.Context) ([]netip.AddrPort, error) {
	asked, cancel := context.WithTimeout(ctx, srvPatience)
	_, records, err := l.LookupSRV(asked, l.target.Scheme, l.target.EffectiveTransport(), l.target.Host)
	cancel()
	if err != nil || len(records) == 0 {
		return nil, nil //nolint:nilerr // no records and no answer: the default port is tried
	}
	if len(records) == 1 && records[0].Target == "." {
		return nil, errNotOffered
	}
	var found []netip.AddrPort
	for _, r := range records[:min(len(records), maxSRV)] {
		more, errName := l.addresses(ctx, strings.TrimSuffix(r.Target, "."), r.Port)
		if errName != nil {
			err = errName
		}
		found = append(found, more...)
	}
	return found, err
}

// addresses keeps the resolver's order, which is that of RFC 6724.
func (l *lookup) addresses(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error) {
	addresses, err := l.LookupNetIP(ctx, "ip", host)
	var found []netip.AddrPort
	for _, a := range addresses {
		if to := netip.AddrPortFrom(a.Unmap(), port); !slices.Contains(found, to) && port != 0 {
			found = append(found, to)
		}
	}
	return found, err
}

// refusal says what of the search did not work.
func (l *lookup) refusal(ctx context.Context, err error) *Refusal {
	r := &Refusal{Code: CodeDNSFailed, Target: l.target.String(), Step: "resolve " + l.target.Host, After: time.Since(l.started), Err: err}
	var name *net.DNSError
	switch {
	case interrupted(ctx):
		r.Code, r.Reason, r.Err = CodeProbeInterrupted, "no answer", context.Cause(ctx)
	case ctx.Err() != nil, errors.As(err, &name) && name.IsTimeout:
		r.Reason, r.Err = "no answer from the resolver", nil
	case errors.As(err, &name):
		r.Reason, r.Err = name.Err, nil
		if name.IsNotFound {
			r.Reason = "no such name"
		}
	}
	return r
}
