package mesh

import (
	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// The candidates of one description, each of which is an address that ICE sends
// to. In its text browsers repeat them for every media section.
const (
	maxCandidates = 64
	maxInText     = 4 * maxCandidates
)

// takeCandidate adds a candidate of the peer to the connection whose
// description has its username fragment, or keeps it for one that is to come.
func (l *link) takeCandidate(candidate wire.Candidate) {
	if c := l.owner(fragmentOf(candidate)); c != nil {
		l.add(c, candidate)
		return
	}
	if len(l.early) == maxCandidates {
		l.early = l.early[1:]
	}
	l.early = append(l.early, candidate)
}

// owner is the connection a candidate belongs to. One without a fragment is
// for the latest description, which an offer of ours still waits for.
func (l *link) owner(fragment string) *connection {
	for _, c := range []*connection{l.next, l.conn, l.spare} {
		if c == nil {
			continue
		}
		remote := c.remote()
		if fragment == "" {
			if remote == "" || c.pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer {
				return nil
			}
			return c
		}
		if remote != "" && fragment == ufrag(remote) {
			return c
		}
	}
	return nil
}

// fragmentOf is "" when the peer does not say which description it means.
func fragmentOf(c wire.Candidate) string {
	if c.UsernameFragment == nil {
		return ""
	}
	return *c.UsernameFragment
}

// add hands a candidate to ICE. A bad one is skipped: others may do.
func (l *link) add(c *connection, candidate wire.Candidate) {
	if l.taken++; l.taken > maxCandidates {
		return
	}
	_ = c.pc.AddICECandidate(webrtc.ICECandidateInit{
		Candidate: candidate.Candidate, SDPMid: candidate.SDPMid,
		SDPMLineIndex: candidate.SDPMLineIndex, UsernameFragment: candidate.UsernameFragment,
	})
}

// gathered sends a local candidate; nil is the end of them.
func (l *link) gathered(c *connection, generation int64, candidate *webrtc.ICECandidate) {
	if generation != c.generation.Load() {
		return
	}
	if candidate == nil {
		l.gatheringEnded(c)
		return
	}
	c.gathered++
	init := candidate.ToJSON()
	message := wire.Candidate{Candidate: init.Candidate, SDPMid: init.SDPMid, SDPMLineIndex: init.SDPMLineIndex}
	if d := c.pc.LocalDescription(); d != nil {
		fragment := ufrag(d.SDP) // pion leaves it out
		message.UsernameFragment = &fragment
	}
	l.send(wire.Signal{Type: wire.TypeCandidate, Candidate: &message})
	l.agent.emitEvent(eventCandidate(l.peer, init.Candidate))
}
