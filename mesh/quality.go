package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// reportQuality emits what the link's path is like, under the names of the W3C
// statistics. packetsLost counts the connectivity checks that stayed without
// response, which is round-trip loss: data channels have no counter of their
// own.
func (l *link) reportQuality() {
	if !l.up {
		return
	}
	stats, ok := l.conn.stats()
	if !ok {
		return
	}
	lost := stats.RequestsSent - min(stats.ResponsesReceived, stats.RequestsSent)
	if lost > 0 && time.Since(stats.LastRequestTimestamp.Time()) < l.agent.o.Timing.Keepalive {
		lost-- // still on its way
	}
	d := l.describe()
	if d.LossTx != nil {
		l.pacer.adapt(*d.LossTx)
	}
	m := metadata{"packetsLost": lost, "candidateType": d.Path}
	if l.answered(stats) {
		m["roundTripTime"] = stats.CurrentRoundTripTime // seconds
	}
	if d.Path == wire.PathRelay {
		m["turn_server"] = l.conn.server
	}
	addQuality(m, d)
	if l.agent.track != nil {
		l.conn.addMediaQuality(m)
	}
	if limit := l.pacer.limit(); limit > 0 {
		m["bitrate_limit_bps"] = limit
	}
	l.agent.emit("connection_quality_update", l.peer, m)
}

// answered tells whether a check was answered lately: without, pion keeps the
// last round trip for ever.
func (l *link) answered(s webrtc.ICECandidatePairStats) bool {
	t := l.agent.o.Timing
	return s.ResponsesReceived > 0 && time.Since(s.LastResponseTimestamp.Time()) <= 3*max(t.Quality, t.Keepalive)
}

// addQuality adds what is known beside the W3C names.
func addQuality(m metadata, d wire.Link) {
	for key, value := range map[string]*float64{
		"rtt_ms": d.RTTMillis, "rtt_age_ms": d.RTTAgeMillis, "jitter_ms": d.JitterMillis, "loss_tx": d.LossTx, "loss_rx": d.LossRx,
	} {
		if value != nil {
			m[key] = *value
		}
	}
	if d.BufferedAmount != nil {
		m["buffered_amount"] = *d.BufferedAmount
	}
}

// stats are those of the selected pair. pion's shortcut for that pair lacks
// the request counters, so they are looked up in the full report.
func (c *connection) stats() (webrtc.ICECandidatePairStats, bool) {
	selected, ok := c.selectedStats()
	if !ok {
		return selected, false
	}
	for _, s := range c.pc.GetStats() {
		pair, isPair := s.(webrtc.ICECandidatePairStats)
		if isPair && pair.LocalCandidateID == selected.LocalCandidateID &&
			pair.RemoteCandidateID == selected.RemoteCandidateID {
			return pair, true
		}
	}
	return selected, false
}

func (c *connection) selectedStats() (webrtc.ICECandidatePairStats, bool) {
	if ice := c.ice(); ice != nil {
		return ice.GetSelectedCandidatePairStats()
	}
	return webrtc.ICECandidatePairStats{}, false
}

// received is when anything came on the pair; zero: never.
func received(s webrtc.ICECandidatePairStats) time.Time {
	return max(s.LastPacketReceivedTimestamp, s.LastRequestReceivedTimestamp, s.LastResponseTimestamp).Time()
}

// describe is the link as it is now; it asks the PeerConnection, so it never
// shows an old state as the present one.
func (l *link) describe() wire.Link {
	self := l.agent.o.ID
	d := wire.Link{ID: self + "/" + l.peer, Local: self, Peer: l.peer, State: wire.StateNew}
	c, server, quiet := l.current()
	if c == nil {
		return d
	}
	d.State, d.Path, d.CreatedAt = c.stateUnless(quiet), c.path(), &c.createdAt
	if d.Path != "" && d.Path != wire.PathRelay {
		server = ""
	}
	d.TURNServer = &server
	d.LocalFingerprint = l.agent.fingerprint
	if der := c.pc.SCTP().Transport().GetRemoteCertificate(); len(der) > 0 {
		d.RemoteFingerprint = fingerprint(der)
	}
	if channel := c.messages.Load(); channel != nil {
		buffered := channel.buffered()
		d.BufferedAmount = &buffered
	}
	if stats, ok := c.stats(); ok {
		addStats(&d, stats, time.Now())
	}
	l.probe.describe(&d, time.Now())
	return d
}

func addStats(d *wire.Link, s webrtc.ICECandidatePairStats, now time.Time) {
	d.RequestsSent, d.ResponsesReceived = &s.RequestsSent, &s.ResponsesReceived
	d.BytesSent, d.BytesReceived = &s.BytesSent, &s.BytesReceived
	if s.ResponsesReceived > 0 {
		rtt := s.CurrentRoundTripTime * 1000
		age := max(0, millis(now.Sub(s.LastResponseTimestamp.Time())))
		d.RTTMillis, d.RTTAgeMillis = &rtt, &age
	}
	if at := received(s); at.Unix() > 0 {
		d.LastRxAt = &at
	}
}

// via says over what a link is tried, for error texts.
func (l *link) via() string {
	if _, server, _ := l.current(); server != "" {
		return "trying " + server
	}
	return "without a TURN server"
}

// fingerprint is the SHA-256 of a certificate as in SDP (RFC 8122 section 5).
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	parts := make([]string, len(sum))
	for i := range sum {
		parts[i] = hex.EncodeToString(sum[i : i+1])
	}
	return strings.Join(parts, ":")
}
