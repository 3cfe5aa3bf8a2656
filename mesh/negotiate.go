package mesh

import (
	"errors"
	"fmt"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// maxRestarts is how many ICE restarts in a row may fail before the link gets
// a new PeerConnection, which costs what SCTP had queued.
const maxRestarts = 2

// maxCandidates bounds the candidates of one description.
const maxCandidates = 64

// connect starts an attempt from this side, on the best TURN server left.
// Without signaling or the peer nothing is tried, above all no ICE restart:
// the link goes on when they are back.
func (l *link) connect() {
	l.stopTimer()
	l.attempt = time.Time{}
	if !l.agent.signaling.live(l.agent.ctx) {
		return
	}
	if !l.agent.registered(l.peer) {
		l.leave()
		return
	}
	server, ok := l.agent.pool.choose(l.excluded)
	if !ok {
		l.backOff()
		return
	}
	l.offer(server)
}

// peerLeft ends an attempt that nobody will answer.
func (l *link) peerLeft() {
	if !l.up {
		l.connect()
	}
}

// leave ends the link to a peer that is not in the mesh any more, unless the
// peer lost only signaling.
func (l *link) leave() {
	if l.conn != nil {
		switch l.conn.state() {
		case wire.StateConnected, wire.StateDisconnected:
			return
		}
	}
	l.gone = true
}

// offer sends an offer that uses server.
func (l *link) offer(server string) {
	l.attempt = time.Now()
	l.after(l.patience(), l.timedOut)
	offer, err := l.createOffer(server)
	if err != nil {
		l.failed(err)
		return
	}
	l.send(wire.Signal{
		Type:  wire.TypeOffer,
		Offer: &wire.SessionDescription{Type: "offer", SDP: offer.SDP},
	})
	l.agent.emitSDP("webrtc_offer_created", l.peer, offer.SDP)
}

// createOffer restarts ICE where that can help, else it opens a new connection.
func (l *link) createOffer(server string) (webrtc.SessionDescription, error) {
	if c := l.conn; c.repairable(server) && l.tries < maxRestarts {
		if err := l.prepareRestart(c, server); err == nil {
			return c.offer(&webrtc.OfferOptions{ICERestart: true})
		}
	}
	c, err := l.open(server)
	if err != nil {
		return webrtc.SessionDescription{}, err
	}
	l.replace(c)
	ordered, retransmits := true, uint16(3)
	channel, err := c.pc.CreateDataChannel(channelLabel, &webrtc.DataChannelInit{
		Ordered: &ordered, MaxRetransmits: &retransmits,
	})
	if err != nil {
		return webrtc.SessionDescription{}, fmt.Errorf("create data channel: %w", err)
	}
	l.adopt(c, channel)
	return c.offer(nil)
}

func (c *connection) offer(options *webrtc.OfferOptions) (webrtc.SessionDescription, error) {
	offer, err := c.pc.CreateOffer(options)
	if err != nil {
		return offer, fmt.Errorf("create offer: %w", err)
	}
	if err := c.pc.SetLocalDescription(offer); err != nil {
		return offer, fmt.Errorf("set local offer: %w", err)
	}
	return offer, nil
}

// takeOffer answers an offer of the peer.
func (l *link) takeOffer(offer wire.SessionDescription) {
	c := l.conn
	if c != nil && l.offers() && c.pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer {
		return // glare: the smaller id's offer wins, and that is ours
	}
	server := l.answeringServer()
	restart := c.repairable(server) && sameSession(c.pc.CurrentRemoteDescription().SDP, offer.SDP)
	if restart && l.prepareRestart(c, server) != nil {
		restart = false
	}
	if !restart {
		var err error
		if c, err = l.open(server); err != nil {
			l.failed(err)
			return
		}
		l.replace(c)
	}
	l.up, l.attempt = false, time.Now()
	l.after(l.patience(), l.timedOut)
	answer, err := l.createAnswer(c, offer.SDP)
	if err != nil {
		l.failed(err)
		return
	}
	l.send(wire.Signal{
		Type:   wire.TypeAnswer,
		Answer: &wire.SessionDescription{Type: "answer", SDP: answer.SDP},
	})
	l.agent.emitSDP("webrtc_answer_created", l.peer, answer.SDP)
}

func (l *link) createAnswer(c *connection, offer string) (webrtc.SessionDescription, error) {
	none := webrtc.SessionDescription{}
	if err := l.describePeer(webrtc.SDPTypeOffer, offer); err != nil {
		return none, err
	}
	answer, err := c.pc.CreateAnswer(nil)
	if err != nil {
		return none, fmt.Errorf("create answer: %w", err)
	}
	if err := c.pc.SetLocalDescription(answer); err != nil {
		return none, fmt.Errorf("set local answer: %w", err)
	}
	return answer, nil
}

// describePeer sets the peer's description and adds its candidates that came
// before.
func (l *link) describePeer(kind webrtc.SDPType, sdp string) error {
	if err := l.conn.pc.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp}); err != nil {
		return fmt.Errorf("set remote %s: %w", kind, err)
	}
	early := l.early
	l.early, l.taken = nil, 0
	for _, candidate := range early {
		if fragment := fragmentOf(candidate); fragment == "" || fragment == ufrag(sdp) {
			l.add(candidate)
		}
	}
	return nil
}

// takeAnswer completes our offer.
func (l *link) takeAnswer(answer wire.SessionDescription) {
	c := l.conn
	if c == nil || l.attempt.IsZero() {
		return
	}
	l.agent.emitSDP("webrtc_answer_received", l.peer, answer.SDP)
	if c.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		// The one taken before was late, for an offer given up: start again,
		// but not for ever with a peer that always answers twice.
		if ufrag(c.remote()) != ufrag(answer.SDP) && l.tries <= maxRestarts {
			l.tries++
			l.connect()
		}
		return
	}
	if d := c.pc.CurrentRemoteDescription(); d != nil && !sameSession(d.SDP, answer.SDP) {
		// The peer has a new PeerConnection, so ours has nobody to talk to.
		l.tries = maxRestarts
		l.connect()
		return
	}
	if err := l.describePeer(webrtc.SDPTypeAnswer, answer.SDP); err != nil {
		l.failed(err)
	}
}

// takeCandidate adds a candidate of the peer, or keeps it for the description
// it belongs to: the one with its username fragment.
func (l *link) takeCandidate(candidate wire.Candidate) {
	remote, waiting := "", true
	if l.conn != nil {
		remote = l.conn.remote()
		waiting = remote == "" || l.conn.pc.SignalingState() == webrtc.SignalingStateHaveLocalOffer
	}
	if fragment := fragmentOf(candidate); fragment == "" && !waiting || remote != "" && fragment == ufrag(remote) {
		l.add(candidate)
		return
	}
	if len(l.early) == maxCandidates {
		l.early = l.early[1:]
	}
	l.early = append(l.early, candidate)
}

// fragmentOf is "" when the peer does not say which description it means.
func fragmentOf(c wire.Candidate) string {
	if c.UsernameFragment == nil {
		return ""
	}
	return *c.UsernameFragment
}

// add hands a candidate to ICE. A bad one is skipped: others may do.
func (l *link) add(candidate wire.Candidate) {
	if l.taken++; l.taken > maxCandidates {
		return
	}
	_ = l.conn.pc.AddICECandidate(webrtc.ICECandidateInit{
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

// gatheringEnded: without a single relay address, waiting is no use.
func (l *link) gatheringEnded(c *connection) {
	if l.agent.o.RelayOnly && c.gathered == 0 && !l.attempt.IsZero() {
		l.failed(errors.New("the TURN server gives no relay address"))
		if l.next != nil && !l.offers() {
			l.connect() // the offering side cannot know
		}
	}
}

// send goes to the peer through signaling. When that fails signaling is lost,
// and the link goes on when it is back.
func (l *link) send(s wire.Signal) {
	s.From, s.To = l.agent.o.ID, l.peer
	if err := l.agent.signaling.send(l.agent.ctx, s); err != nil {
		l.stopTimer()
		l.attempt = time.Time{}
	}
}
