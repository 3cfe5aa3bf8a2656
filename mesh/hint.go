package mesh

import "strings"

// purpose says why a connection is made.
type purpose string

const (
	purposeConnect purpose = "connect" // the link has none that works
	purposeMove    purpose = "move"    // the link works and shall use another server
	purposeStandby purpose = "standby" // the link works and shall have a second path
)

// Our own agents tell each other in an attribute of the SDP what a description
// is for, and know each other by it. Others ignore attributes they do not know
// (RFC 8866 section 5.13).
const (
	purposeLine = "a=x-meshctl-purpose:"
	answersLine = "a=x-meshctl-answers:" // the ufrag of the offer
)

// hinted adds what a description tells our own agents.
func (l *link) hinted(sdp, prefix, value string) string {
	if l.agent.o.plain {
		return sdp
	}
	return sdp + prefix + value + "\r\n"
}

// recognise takes note of who describes itself. One of ours is known at once:
// a path that dies before the first heartbeat must not make it a plain agent.
// Another identity under the same name can be another kind of agent.
func (l *link) recognise(sdp string) {
	identity := sdpLine(sdp, "a=fingerprint:")
	switch {
	case sdpLine(sdp, purposeLine)+sdpLine(sdp, answersLine) != "":
		l.kind.Store(kindOurs)
	case identity != l.identity:
		l.kind.Store(kindUnknown)
	}
	l.identity = identity
}

// startedAnew tells that the offer comes from another agent under the peer's
// name. One of ours has one identity for all its connections; others can have
// one for each.
func (l *link) startedAnew(offer string) bool {
	return l.identity != "" && sdpLine(offer, purposeLine) != "" && sdpLine(offer, "a=fingerprint:") != l.identity
}

func purposeOf(sdp string) purpose {
	switch p := purpose(strings.TrimSpace(sdpLine(sdp, purposeLine))); p {
	case purposeMove, purposeStandby:
		return p
	}
	return purposeConnect
}

// answers tells whether an answer can be to the offer: one of our own agents
// names it, others do not.
func answers(answer, offer string) bool {
	named := strings.TrimSpace(sdpLine(answer, answersLine))
	return named == "" || named == ufrag(offer)
}
