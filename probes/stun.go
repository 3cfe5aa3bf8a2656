package probes

import (
	"context"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// STUN asks a server where it sees us: one Binding request over UDP. It says
// nothing about relaying, even on a TURN server.
type STUN struct {
	Target   wire.ServerURI
	Timeout  time.Duration // of the whole probe; 0 = as long as the schedule
	Schedule Schedule      // zero = QuickSchedule
}

// Run asks once and reports stun.ok or what was wrong.
func (p STUN) Run(ctx context.Context) Report {
	started := time.Now()
	return newReport("stun", p.Target, started, []Finding{p.ask(ctx)})
}

func (p STUN) ask(ctx context.Context) Finding {
	if p.Target.Secure() || p.Target.EffectiveTransport() != "udp" {
		return newFinding(CodeSTUNUnsupported, unsupported(p.Target))
	}
	schedule := p.Schedule.orQuick()
	ctx, cancel := schedule.bounded(ctx, p.Timeout)
	defer cancel()
	server, err := resolve(ctx, p.Target, "stun")
	if err != nil {
		return refusalFinding(err, nil)
	}
	s, err := connectSocket("stun", server, schedule)
	if err != nil {
		return newFinding(CodeLocalFault, cause(err), Fact{"address", server.String()})
	}
	defer s.close()
	x, err := s.binding(ctx)
	if err != nil {
		return refusalFinding(err, nil)
	}
	facts := []Fact{{"address", server.String()}, {"mapped", x.reply.mapped.String()}}
	if x.reply.software != "" {
		facts = append(facts, Fact{"software", x.reply.software})
	}
	if x.rtt > 0 {
		facts = append(facts, Fact{"rtt_ms", millis(x.rtt)})
	}
	return newFinding(CodeSTUNOK, "", facts...)
}

// unsupported says in what way a target goes beyond what is probed.
func unsupported(target wire.ServerURI) string {
	transport := target.EffectiveTransport()
	switch {
	case target.Secure() && transport == "udp":
		transport = "dtls"
	case target.Secure():
		transport = "tls"
	}
	return "not probed yet over " + transport
}
