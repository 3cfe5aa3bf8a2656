package mesh

import (
	"cmp"
	"net"
	"slices"
	"strconv"

	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// Paths reports every way to a peer that was tried; ok is false when there is
// no link to it, or none that has begun.
func (a *Agent) Paths(peer string) (report wire.PathReport, ok bool) {
	l := a.existing(peer)
	if l == nil {
		return report, false
	}
	c, _, quiet := l.current()
	if c == nil {
		return report, false
	}
	report = wire.PathReport{
		Local: a.o.ID, Peer: peer, State: c.stateUnless(quiet), Path: c.path(), RelayOnly: a.o.RelayOnly,
		Own: []wire.PathCandidate{}, Theirs: []wire.PathCandidate{}, Pairs: []wire.PathPair{},
	}
	report.Down, report.DownMillis = l.silence()
	stats := c.pc.GetStats()
	byID := map[string]wire.PathCandidate{}
	for _, s := range stats {
		if candidate, ok := s.(webrtc.ICECandidateStats); ok {
			p := pathCandidate(candidate)
			byID[candidate.ID] = p
			if candidate.Type == webrtc.StatsTypeLocalCandidate {
				report.Own = append(report.Own, p)
			} else {
				report.Theirs = append(report.Theirs, p)
			}
		}
	}
	for _, s := range stats {
		if pair, ok := s.(webrtc.ICECandidatePairStats); ok {
			report.Pairs = append(report.Pairs, wire.PathPair{
				Local: byID[pair.LocalCandidateID], Remote: byID[pair.RemoteCandidateID],
				State: string(pair.State), Nominated: pair.Nominated,
				RequestsSent: pair.RequestsSent, ResponsesReceived: pair.ResponsesReceived,
				RTTMillis: pair.CurrentRoundTripTime * 1000,
			})
		}
	}
	sortReport(&report)
	return report, true
}

func pathCandidate(c webrtc.ICECandidateStats) wire.PathCandidate {
	return wire.PathCandidate{
		Type: c.CandidateType.String(), Address: net.JoinHostPort(c.IP, strconv.Itoa(int(c.Port))), Protocol: c.Protocol,
	}
}

// sortReport gives the maps of pion an order.
func sortReport(r *wire.PathReport) {
	byAddress := func(x, y wire.PathCandidate) int {
		return cmp.Or(cmp.Compare(x.Type, y.Type), cmp.Compare(x.Address, y.Address))
	}
	slices.SortFunc(r.Own, byAddress)
	slices.SortFunc(r.Theirs, byAddress)
	slices.SortFunc(r.Pairs, func(x, y wire.PathPair) int {
		return cmp.Or(byAddress(x.Local, y.Local), byAddress(x.Remote, y.Remote))
	})
}
