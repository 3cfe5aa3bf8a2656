package probes

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// STUN asks a server where it sees us: one Binding request over the transport
// of Target. It says nothing about relaying, even on a TURN server.
type STUN struct {
	Target   wire.ServerURI
	Server   netip.AddrPort // asked in place of the address that Target resolves to; not valid = that
	Roots    *x509.CertPool // certificate authorities for TLS and DTLS; nil = the system's
	Timeout  time.Duration  // of the whole probe; 0 = two schedules
	Schedule Schedule       // zero = QuickSchedule
	Limits   Limits         // of the certificate's life; zero = DefaultLimits
}

// Run asks once and reports stun.ok or what was wrong.
func (p STUN) Run(ctx context.Context) Report {
	started := time.Now()
	return newReport("stun", p.Target, started, p.ask(ctx))
}

func (p STUN) ask(ctx context.Context) []Finding {
	schedule := p.Schedule.orQuick()
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = 2 * schedule.GiveUp
	}
	ctx, cancel := schedule.bounded(ctx, timeout)
	defer cancel()
	server := p.Server
	if !server.IsValid() {
		var err error
		if server, err = resolve(ctx, p.Target, "stun"); err != nil {
			return []Finding{refusalFinding(err, nil)}
		}
	}
	d := dialer{service: "stun", transport: TransportOf(p.Target), host: p.Target.Host, server: server, schedule: schedule}
	s, err := d.dial(ctx)
	if err != nil {
		return []Finding{refusalFinding(err, nil)}
	}
	defer s.close()
	x, err := s.binding(ctx)
	if err != nil {
		return append([]Finding{refusalFinding(s.inside(err), s.facts())}, s.judged(p.Target, p.Roots, p.Limits)...)
	}
	facts := append(s.facts(), Fact{"mapped", x.reply.mapped.String()})
	if x.reply.software != "" {
		facts = append(facts, Fact{"software", x.reply.software})
	}
	if x.rtt > 0 {
		facts = append(facts, Fact{"rtt_ms", millis(x.rtt)})
	}
	return append([]Finding{newFinding(CodeSTUNOK, "", facts...)}, s.judged(p.Target, p.Roots, p.Limits)...)
}
