package mesh

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// connection is one PeerConnection and what belongs to it alone.
type connection struct {
	pc         *webrtc.PeerConnection
	createdAt  time.Time
	purpose    purpose
	messages   atomic.Pointer[channel] // nil: none yet
	ext        atomic.Pointer[channel] // nil: none yet, or the peer is a plain agent
	generation atomic.Int64            // of ICE credentials
	heard      atomic.Uint64           // messages that came on its channels
	taken      atomic.Int64            // channels that the peer has opened
	server     string                  // TURN server configured; link.mu guards changes
	username   string                  // for that server
	relayed    bool                    // one side was a relay when it was last up
	gathered   int                     // local candidates of this generation
	vigil      vigil
	upSince    time.Time // latest
	lastHeard  time.Time

	mu      sync.Mutex
	closing bool // no reader begins
	readers sync.WaitGroup
}

// open makes a PeerConnection that uses one TURN server.
func (l *link) open(server string, why purpose) (*connection, error) {
	api := l.agent.api
	if l.conn != nil && l.conn.relayed { // no direct path was found the last time
		api = l.agent.quick
	}
	configuration := l.agent.configuration(server)
	if why == purposeStandby { // a second direct path would share the fate of the first
		configuration.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	pc, err := api.NewPeerConnection(configuration)
	if err != nil {
		return nil, fmt.Errorf("open connection to %s: %w", l.peer, err)
	}
	c := &connection{pc: pc, createdAt: time.Now(), server: server, purpose: why}
	c.username, _ = l.agent.pool.credentials()
	review := func() { l.about(c, func() { l.review(c) }) }
	pc.OnConnectionStateChange(func(webrtc.PeerConnectionState) { review() })
	pc.SCTP().Transport().ICETransport().OnSelectedCandidatePairChange(func(*webrtc.ICECandidatePair) { review() })
	pc.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		generation := c.generation.Load()
		l.about(c, func() { l.gathered(c, generation, candidate) })
	})
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		switch label := dc.Label(); {
		case label == channelLabel && c.taken.Add(1) <= maxChannels:
			l.adopt(c, dc)
		case label == wire.ExtLabel && c.taken.Add(1) <= maxChannels && !l.agent.o.plain:
			l.adoptExt(c, dc)
		default: // nobody would read it
			dc.OnOpen(func() { _ = dc.Close() })
		}
	})
	if track := l.agent.track; track != nil && !l.mute {
		if err := c.addMedia(track); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

// createChannels is the offering side's part. Peers that take the latest
// channel for the one to use must find the one for messages.
func (l *link) createChannels(c *connection) error {
	ordered, unordered := true, false
	none, some := uint16(0), uint16(3)
	if !l.agent.o.plain {
		ext, err := c.pc.CreateDataChannel(wire.ExtLabel, &webrtc.DataChannelInit{Ordered: &unordered, MaxRetransmits: &none})
		if err != nil {
			return fmt.Errorf("create data channel %s: %w", wire.ExtLabel, err)
		}
		l.adoptExt(c, ext)
	}
	messages, err := c.pc.CreateDataChannel(channelLabel, &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: &some})
	if err != nil {
		return fmt.Errorf("create data channel %s: %w", channelLabel, err)
	}
	l.adopt(c, messages)
	return nil
}

// adopt makes dc the channel for messages. Its callbacks are set before pion
// delivers anything.
func (l *link) adopt(c *connection, dc *webrtc.DataChannel) {
	event := func(name string, m metadata) {
		l.about(c, func() {
			l.agent.emit(name, l.peer, m)
			l.review(c)
		})
	}
	c.messages.Store(c.serve(dc,
		func() { event("datachannel_open", nil) },
		func(data []byte) { l.deliver(c, data, time.Now()) },
		func(err error) {
			if err != nil && !c.isClosing() {
				event("datachannel_error", metadata{"error": err.Error()})
			}
			event("datachannel_closed", nil)
		}))
}

// adoptExt makes dc the channel of our own agents.
func (l *link) adoptExt(c *connection, dc *webrtc.DataChannel) {
	c.ext.Store(c.serve(dc,
		func() { l.beat(c) },
		func(data []byte) { l.receiveExt(c, data, time.Now()) },
		func(error) {}))
}

// hold lets a reader begin unless the connection is being closed.
func (c *connection) hold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.readers.Add(1)
	}
	return !c.closing
}

func (c *connection) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// close ends the connection and waits until nothing of it is left.
func (c *connection) close() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	_ = c.pc.GracefulClose()
	c.readers.Wait()
}

// ice is nil until ICE has got somewhere: before, it cannot be asked without a
// data race inside pion, and has nothing to say.
func (c *connection) ice() *webrtc.ICETransport {
	switch c.pc.ConnectionState() {
	case webrtc.PeerConnectionStateConnected, webrtc.PeerConnectionStateDisconnected, webrtc.PeerConnectionStateFailed:
		return c.pc.SCTP().Transport().ICETransport()
	}
	return nil
}

func (c *connection) pair() *webrtc.ICECandidatePair {
	ice := c.ice()
	if ice == nil {
		return nil
	}
	pair, err := ice.GetSelectedCandidatePair()
	if err != nil {
		return nil
	}
	return pair
}

// open tells whether the channel was opened and not closed since: it is worth
// keeping even when nothing passes.
func (c *connection) open() bool { return c.messages.Load().open() }

// up tells whether messages can pass as far as pion knows. The pair is asked
// for because the state lags behind: right after an ICE restart it still says
// connected.
func (c *connection) up() bool {
	return c.open() && c.pc.ConnectionState() == webrtc.PeerConnectionStateConnected && c.pair() != nil
}

// over tells whether nothing will ever pass again: the peer closed it, or ICE
// failed and has forgotten its candidates.
func (c *connection) over() bool {
	state := c.state()
	return state == wire.StateFailed || state == wire.StateClosed
}

// state is the PeerConnection's, but connected only when messages can pass.
func (c *connection) state() string {
	state := c.pc.ConnectionState()
	if c.messages.Load().closed() && state != webrtc.PeerConnectionStateFailed {
		return wire.StateClosed
	}
	if state != webrtc.PeerConnectionStateConnected || c.up() {
		return state.String()
	}
	return wire.StateConnecting
}

// stateUnless is state, but a path on which nothing passes is not connected,
// whatever pion says.
func (c *connection) stateUnless(quiet bool) string {
	state := c.state()
	if quiet && state == wire.StateConnected {
		return wire.StateDisconnected
	}
	return state
}

// path is the type of the local candidate in use, "" when there is none.
func (c *connection) path() string {
	if pair := c.pair(); pair != nil {
		return pair.Local.Typ.String()
	}
	return ""
}

func (c *connection) usesRelay() bool {
	pair := c.pair()
	return pair != nil && (pair.Local.Typ == webrtc.ICECandidateTypeRelay || pair.Remote.Typ == webrtc.ICECandidateTypeRelay)
}

// repairable tells whether an ICE restart on a server can bring it back. While
// a gathering is under way pion must not be given other servers: it reads the
// old ones without a lock.
func (c *connection) repairable(server string) bool {
	return c != nil && c.open() && c.state() != wire.StateClosed && c.pc.CurrentRemoteDescription() != nil &&
		(server == c.server || c.pc.ICEGatheringState() == webrtc.ICEGatheringStateComplete)
}

// prepareRestart makes the coming ICE restart gather from server. pion gathers
// within CreateOffer and SetRemoteDescription, so this has to come before.
func (l *link) prepareRestart(c *connection, server string) error {
	if err := c.rollBack(); err != nil {
		return err
	}
	c.generation.Add(1)
	c.gathered = 0
	username, _ := l.agent.pool.credentials()
	if server == c.server && username == c.username {
		return nil
	}
	c.username = username
	l.mu.Lock()
	c.server = server
	l.mu.Unlock()
	configuration := l.agent.configuration(server)
	configuration.Certificates = nil // cannot change, and pion would write what GetStats reads
	return c.pc.SetConfiguration(configuration)
}

// rollBack drops an offer that was not answered. pion has no rollback (every
// such transition is refused), but takes the peer's last description as an
// answer that changes nothing.
func (c *connection) rollBack() error {
	if c.pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer {
		return nil
	}
	return c.pc.SetRemoteDescription(webrtc.SessionDescription{
		Type: webrtc.SDPTypeAnswer, SDP: c.pc.CurrentRemoteDescription().SDP,
	})
}

// remote is the description candidates have to belong to, "" when none is set.
func (c *connection) remote() string {
	if d := c.pc.RemoteDescription(); d != nil {
		return d.SDP
	}
	return ""
}

// sameSession tells whether two descriptions come from one PeerConnection:
// RFC 9429 section 5.2.2 keeps the session id of the o= line.
func sameSession(sdp, other string) bool {
	id := sessionID(sdp)
	return id != "" && id == sessionID(other)
}

func sessionID(sdp string) string {
	fields := strings.Fields(sdpLine(sdp, "o="))
	if len(fields) < 2 {
		return ""
	}
	return fields[0] + " " + fields[1]
}

// ufrag changes with every ICE restart (RFC 8445 section 9).
func ufrag(sdp string) string { return strings.TrimSpace(sdpLine(sdp, "a=ice-ufrag:")) }

// sdpLine gives the rest of the first line with the prefix.
func sdpLine(sdp, prefix string) string {
	for line := range strings.Lines(sdp) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return rest
		}
	}
	return ""
}
