package probes

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// Matrix asks one server over several transports side by side. What one of
// them shows can name what is wrong with another: UDP that is blocked on the
// way, or TLS that is not served.
type Matrix struct {
	TURN
	Targets []wire.ServerURI // of one server, as Over makes them; Server is not used
	Servers []netip.AddrPort // the address of each target; missing or not valid = what it resolves to
}

// Run returns one report for each target, in their order.
func (m Matrix) Run(ctx context.Context) []Report {
	reports := make([]Report, len(m.Targets))
	var asked sync.WaitGroup
	for i, target := range m.Targets {
		asked.Go(func() {
			p := m.TURN
			p.Target, p.Server = target, netip.AddrPort{}
			if i < len(m.Servers) {
				p.Server = m.Servers[i]
			}
			reports[i] = p.Run(ctx)
		})
	}
	asked.Wait()
	for i := range reports {
		m.compare(reports, i)
	}
	return reports
}

// compare names again what a report alone could not.
func (m Matrix) compare(reports []Report, i int) {
	over := TransportOf(m.Targets[i])
	answers := func(t Transport) bool {
		return slices.ContainsFunc(m.Targets, func(u wire.ServerURI) bool {
			j := slices.Index(m.Targets, u)
			return TransportOf(u) == t && reports[j].speaksTURN()
		})
	}
	r := &reports[i]
	problem, bad := r.Problem()
	switch {
	case !bad:
	case over == UDP && problem.Code == CodeTURNSilent && (answers(TCP) || answers(TLS)):
		r.rename(problem.Code, CodeUDPBlocked, "nothing answers over udp")
	case over == TLS && problem.Code == CodeTURNClosed && (answers(UDP) || answers(TCP)):
		r.rename(problem.Code, CodeTLSNoListener, "the port is closed, and TURN answers without TLS")
	case over == DTLS && problem.Code == CodeTURNClosed && (answers(UDP) || answers(TCP)):
		r.rename(problem.Code, CodeTLSNoListener, "the port is closed, and TURN answers without DTLS")
	case over == TLS && problem.Code == CodeTLSHandshake && answers(TCP):
		r.rename(problem.Code, CodeTLSNoListener, problem.Summary)
	}
}

// speaksTURN tells whether a TURN server has answered, well or badly.
func (r Report) speaksTURN() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool {
		return f.Code == CodeTURNOK || f.Fact("realm") != "" || f.Fact("stun_code") != ""
	})
}

// rename gives a finding the name that the comparison shows.
func (r *Report) rename(from, to, detail string) {
	i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == from })
	r.Findings[i] = newFinding(to, detail, r.Findings[i].Facts...)
}
