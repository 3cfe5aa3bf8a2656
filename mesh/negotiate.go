package mesh

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// maxRestarts is how many ICE restarts in a row may fail before the link to a
// plain agent gets a new PeerConnection, which costs what SCTP had queued.
const maxRestarts = 2

// offer sends an offer that uses server.
func (l *link) offer(server string, why purpose) {
	c, restart := l.candidate(server, why)
	if c == nil {
		return
	}
	l.begin(attempt{c: c, restart: restart, offering: true})
	offer, err := l.createOffer(c, restart)
	if err != nil {
		l.failed(err)
		return
	}
	offer.SDP = l.hinted(offer.SDP, purposeLine, string(c.purpose))
	l.send(wire.Signal{
		Type:  wire.TypeOffer,
		Offer: &wire.SessionDescription{Type: "offer", SDP: offer.SDP},
	})
	l.agent.emitSDP("webrtc_offer_created", l.peer, offer.SDP)
}

// candidate is the connection to offer: between our own agents always a new
// one, else the one there is when restarting ICE can help it.
func (l *link) candidate(server string, why purpose) (c *connection, restart bool) {
	if c := l.conn; !l.ours() && c.repairable(server) && l.tries < maxRestarts && l.prepareRestart(c, server) == nil {
		if l.up {
			l.up = false // restarting cuts it at once
		}
		return c, true
	}
	c, err := l.open(server, why)
	if err != nil {
		l.failed(err)
		return nil, false
	}
	l.setNext(c)
	return c, false
}

// begin makes a the attempt under way, with its time limit.
func (l *link) begin(a attempt) {
	a.began = time.Now()
	l.attempt = &a
	l.after(l.patience(), l.timedOut)
}

func (l *link) createOffer(c *connection, restart bool) (webrtc.SessionDescription, error) {
	if !restart {
		if err := l.createChannels(c); err != nil {
			return webrtc.SessionDescription{}, err
		}
	}
	offer, err := c.pc.CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return offer, fmt.Errorf("create offer: %w", err)
	}
	if err := c.pc.SetLocalDescription(offer); err != nil {
		return offer, fmt.Errorf("set local offer: %w", err)
	}
	return offer, nil
}

// maxOffers is how many offers of a peer are looked at in offerSpan: each takes
// a PeerConnection, and its events are written to disk.
const (
	maxOffers = 64
	offerSpan = 10 * time.Second
)

// takeOffer answers an offer of the peer. One without ICE credentials is none,
// and one of too many is treated as if it had been lost.
func (l *link) takeOffer(offer wire.SessionDescription) {
	if ufrag(offer.SDP) == "" || !l.offered.take(time.Now(), maxOffers, offerSpan) {
		return
	}
	if c := l.negotiated(offer.SDP); c != nil {
		l.negotiateAgain(c, offer.SDP)
		return
	}
	if a := l.attempt; a != nil && a.offering {
		if l.offers() {
			return // glare: the smaller id's offer wins, and that is ours
		}
		l.abandon()
	}
	why := purposeOf(offer.SDP)
	server := l.answeringServer(offer.SDP)
	c, restart, err := l.answering(offer.SDP, server, why)
	if err != nil {
		l.failed(err)
		return
	}
	l.begin(attempt{c: c, restart: restart})
	if err := l.answer(c, offer.SDP); err != nil {
		l.failed(err)
	}
}

// answer answers an offer with a connection.
func (l *link) answer(c *connection, offer string) error {
	answer, err := l.createAnswer(c, offer)
	if err != nil {
		return err
	}
	l.sendAnswer(answer.SDP, offer)
	return nil
}

func (l *link) sendAnswer(answer, offer string) {
	answer = l.hinted(answer, answersLine, ufrag(offer))
	l.send(wire.Signal{Type: wire.TypeAnswer, Answer: &wire.SessionDescription{Type: "answer", SDP: answer}})
	l.agent.emitSDP("webrtc_answer_created", l.peer, answer)
}

// negotiated is the connection whose ICE session an offer goes on with: no
// other path is wanted.
func (l *link) negotiated(offer string) *connection {
	for _, c := range []*connection{l.next, l.conn, l.spare} {
		if c != nil && !c.over() && c.pc.SignalingState() == webrtc.SignalingStateStable &&
			sameSession(c.remote(), offer) && ufrag(c.remote()) == ufrag(offer) {
			return c
		}
	}
	return nil
}

// negotiateAgain answers an offer that changes something else than the path, as
// browsers send them. One that comes again is answered again as long as the
// answer may have been lost.
func (l *link) negotiateAgain(c *connection, offer string) {
	switch {
	case c.remote() != offer:
		_ = l.answer(c, offer) // without an answer all stays as it is
	case l.attempt != nil && l.attempt.c == c:
		l.sendAnswer(c.pc.LocalDescription().SDP, offer)
	}
}

// answering is the connection to answer with: the one whose ICE the peer
// restarts, else a new one.
func (l *link) answering(offer, server string, why purpose) (c *connection, restart bool, err error) {
	c = l.conn
	if c.repairable(server) && sameSession(c.pc.CurrentRemoteDescription().SDP, offer) && l.prepareRestart(c, server) == nil {
		l.up = false
		return c, true, nil
	}
	if c, err = l.open(server, why); err != nil {
		return nil, false, err
	}
	l.setNext(c)
	return c, false, nil
}

func (l *link) createAnswer(c *connection, offer string) (webrtc.SessionDescription, error) {
	none := webrtc.SessionDescription{}
	if err := l.describePeer(c, webrtc.SDPTypeOffer, offer); err != nil {
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
func (l *link) describePeer(c *connection, kind webrtc.SDPType, sdp string) error {
	if n := strings.Count(sdp, "\na=candidate:"); n > maxInText {
		return fmt.Errorf("set remote %s: %d candidates, more than %d", kind, n, maxInText)
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp}); err != nil {
		return fmt.Errorf("set remote %s: %w", kind, err)
	}
	l.recognise(sdp)
	early := l.early
	l.early, l.taken = nil, 0
	for _, candidate := range early {
		if fragment := fragmentOf(candidate); fragment == "" || fragment == ufrag(sdp) {
			l.add(c, candidate)
		}
	}
	return nil
}

// takeAnswer completes our offer.
func (l *link) takeAnswer(answer wire.SessionDescription) {
	a := l.attempt
	if a == nil || a.c.pc.LocalDescription() == nil || !answers(answer.SDP, a.c.pc.LocalDescription().SDP) {
		return
	}
	c := a.c
	l.agent.emitSDP("webrtc_answer_received", l.peer, answer.SDP)
	if c.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		// The one taken before was late, for an offer given up: start again,
		// but not for ever with a peer that always answers twice.
		if ufrag(c.remote()) != ufrag(answer.SDP) && l.tries <= maxRestarts {
			l.tries++
			l.again()
		}
		return
	}
	if d := c.pc.CurrentRemoteDescription(); d != nil && !sameSession(d.SDP, answer.SDP) {
		// The peer has a new PeerConnection, so ours has nobody to talk to.
		l.tries = maxRestarts
		l.again()
		return
	}
	if l.agent.track != nil && !l.mute && refusesAudio(answer.SDP) {
		l.mute = true // pion fails on such an answer
		l.again()
		return
	}
	if err := l.describePeer(c, webrtc.SDPTypeAnswer, answer.SDP); err != nil {
		l.failed(err)
		return
	}
	a.offering = false
}

// again starts the attempt over.
func (l *link) again() {
	l.abandon()
	l.connect()
}

// abandon drops the attempt under way.
func (l *link) abandon() {
	l.attempt = nil
	l.stopTimer()
	l.setNext(nil)
}

// send goes to the peer through signaling. When that fails signaling is lost:
// without offer or answer there is no attempt, and the link goes on when
// signaling is back.
func (l *link) send(s wire.Signal) {
	s.From, s.To = l.agent.o.ID, l.peer
	if err := l.agent.signaling.send(l.agent.ctx, s); err != nil && s.Type != wire.TypeCandidate {
		l.abandon()
	}
}

// gatheringEnded: without a single relay address, waiting is no use.
func (l *link) gatheringEnded(c *connection) {
	if (l.agent.o.RelayOnly || c.purpose == purposeStandby) && c.gathered == 0 && l.attempt != nil && l.attempt.c == c {
		l.failed(errors.New("the TURN server gives no relay address"))
		if l.then != nil && !l.offers() {
			l.connect() // the offering side cannot know
		}
	}
}
