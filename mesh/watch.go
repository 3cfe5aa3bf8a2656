package mesh

import (
	"errors"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

var errEnded = errors.New("the connection ended before it worked")

// pulse is how often a link looks whether its paths live: twice as often when
// it can change over to another at once.
func (o AgentOptions) pulse() time.Duration {
	pulse := o.Timing.Keepalive / 2
	if o.Standby {
		pulse /= 2
	}
	return max(pulse, time.Millisecond)
}

// deafAfter is how long our checks may stay without response while the peer is
// heard.
func (t Timing) deafAfter() time.Duration { return max(3*t.Keepalive, t.Disconnected) }

// spareAfter is the silence after which a second path that lives is preferred:
// changing over costs nothing.
func (t Timing) spareAfter() time.Duration { return t.Keepalive * 3 / 2 }

// watch looks for silence on the link's paths.
func (l *link) watch(now time.Time) {
	c, t := l.conn, l.agent.o.Timing
	if c == nil || c.over() {
		return
	}
	every := l.agent.o.pulse()
	counts := c.vigil.observe(now, every)
	c.vigil.look(c, counts)
	if c.vigil.quiet == 0 {
		c.lastHeard = now
	}
	if l.spare != nil {
		l.spare.vigil.observe(now, every)
		l.spare.vigil.look(l.spare, counts)
	}
	switch v := &c.vigil; {
	case !l.up && l.spare != nil && l.spare.up() && l.spare.vigil.lately():
		l.switchToSpare("nothing received")
	case !l.up:
		l.selfHeal()
	case l.spare != nil && v.silent(every, t.spareAfter()) && l.spare.vigil.lately():
		l.switchToSpare("nothing received")
	case v.silent(every, t.Disconnected):
		l.stalled("nothing received")
	case v.deaf(every, t.deafAfter()):
		l.stalled(v.direction(every, t.Keepalive))
	}
}

// selfHeal: the path that had gone silent lives again, before another one was
// there. An attempt that is under way goes on; its connection is the newer one
// for both sides.
func (l *link) selfHeal() {
	c, t := l.conn, l.agent.o.Timing
	if l.quiet == "" || !c.up() || c.vigil.quiet > 0 || c.vigil.deaf(l.agent.o.pulse(), t.Keepalive*3/2) {
		return
	}
	if l.attempt != nil && l.attempt.restart {
		return // the restart decides
	}
	if l.falling {
		l.falling = false
		l.agent.emit("turn_fallback_unnecessary", l.peer, metadata{"turn_server": c.server})
	}
	l.established()
}

// stalled: the link was up and nothing passes any more.
func (l *link) stalled(reason string) {
	l.report(wire.StateDisconnected, reason)
	l.setQuiet(reason)
	l.lost(reason)
}

func (l *link) setQuiet(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.quiet, l.since = reason, time.Now()
}

// silence says why nothing passes and for how long; "" when something does.
func (l *link) silence() (reason string, ms float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.quiet == "" {
		return "", 0
	}
	return l.quiet, millis(time.Since(l.since))
}

// lost: the link has no path. The one held in reserve is used at once; else
// its TURN server is excluded for this link, whether or not it is to blame:
// trying the next one costs less than finding out.
func (l *link) lost(reason string) {
	if !l.up {
		l.kick()
		return
	}
	o := l.agent.o
	if l.spare != nil && l.spare.up() && !l.spare.vigil.silent(o.pulse(), o.Timing.spareAfter()) {
		l.switchToSpare(reason)
		return
	}
	l.up = false
	if l.attempt != nil && !l.attempt.restart {
		// A move or a standby under way becomes what recovers the link, and has no
		// more time than that.
		l.attempt.c.purpose = purposeConnect
		l.after(l.patience()-time.Since(l.attempt.began), l.timedOut)
	}
	l.leaveServer(reason)
	l.kick()
}

// leaveServer: the relay of a path that died is suspect; that of one which the
// peer closed is not.
func (l *link) leaveServer(reason string) {
	if l.conn.relayed && l.conn.state() != wire.StateClosed {
		l.fallBack(reason)
	}
}

// switchToSpare changes over to the second path. The first is kept as long as
// any replaced connection.
func (l *link) switchToSpare(reason string) {
	spare := l.spare
	l.spare = nil
	l.leaveServer(reason)
	l.due.standby = time.Now().Add(l.agent.o.Timing.Connect)
	l.use(spare)
	l.established()
}

// relayUsed is the TURN server that the link's path goes through, "" for a
// direct one.
func (l *link) relayUsed() string {
	if l.conn == nil || !l.conn.relayed {
		return ""
	}
	return l.conn.server
}

// keepStandby makes the second path when the link works and has none.
func (l *link) keepStandby() {
	if !l.agent.o.Standby || !l.up || l.spare != nil || l.attempt != nil || !l.ours() || !l.conn.relayed || !l.offers() {
		return
	}
	server, ok := l.agent.pool.second(l.relayUsed(), l.excluded)
	if !ok || !l.agent.signaling.live(l.agent.ctx) || !l.agent.registered(l.peer) {
		return
	}
	l.offer(server, purposeStandby)
}
