package probes

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// SchemeTLS is the scheme of a Target behind which any service may be.
const SchemeTLS = "tls"

// Handshake asks what a TLS client meets: does the handshake work, is the
// certificate in order, and is it a STUN or TURN server where the target is
// one?
type Handshake struct {
	Target  wire.ServerURI // stuns or turns, also over DTLS; or SchemeTLS with a port
	Server  netip.AddrPort // asked in place of the address that Target resolves to; not valid = that
	Roots   *x509.CertPool // certificate authorities; nil = the system's
	Timeout time.Duration  // of the whole probe; 0 = as long as the quick schedule
	Limits  Limits         // of the certificate's life; zero = DefaultLimits
}

// Run asks once and reports tls.ok or what was wrong.
func (p Handshake) Run(ctx context.Context) Report {
	started := time.Now()
	return newReport("tls", p.Target, started, p.findings(ctx))
}

func (p Handshake) findings(ctx context.Context) []Finding {
	schedule := QuickSchedule()
	ctx, cancel := schedule.bounded(ctx, p.Timeout)
	defer cancel()
	server := p.Server
	if !server.IsValid() {
		var err error
		if server, err = resolve(ctx, p.Target, "tls"); err != nil {
			return []Finding{refusalFinding(err, nil)}
		}
	}
	transport := TLS
	if p.Target.Secure() {
		transport = TransportOf(p.Target)
	}
	d := dialer{service: "tls", transport: transport, host: p.Target.Host, server: server, schedule: schedule}
	s, err := d.dial(ctx)
	if err != nil {
		return []Finding{refusalFinding(err, nil)}
	}
	defer s.close()
	c := Certificate{Chain: s.secured.chain, Name: p.Target.Host, Roots: p.Roots, Limits: p.Limits, Now: time.Now()}
	facts, problems := c.Judge()
	facts = append(s.facts(), facts...)
	if p.Target.Scheme != SchemeTLS {
		if _, err := s.binding(ctx); err != nil {
			problems = append(problems, refusalFinding(s.inside(err), s.facts()))
		}
	}
	if !slices.ContainsFunc(problems, func(f Finding) bool { return f.Verdict != Warn }) {
		problems = append([]Finding{newFinding(CodeTLSOK, "", facts...)}, problems...)
	}
	return problems
}
