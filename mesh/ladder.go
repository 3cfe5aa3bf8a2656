package mesh

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// The recovery of a link, rung by rung: it may heal by itself; else the next
// TURN server is tried at once (a second connection between our own agents, an
// ICE restart with others), and the one after that; when the whole list has
// failed the link waits and begins again; after a silence of Timing.Partition
// the healing schedule takes over, which ends in a call for a human.

// connect starts an attempt from this side, on the best TURN server left.
// Without signaling or the peer nothing is tried, above all no ICE restart:
// the link goes on when they are back. A server that only answers late is asked
// again, since nothing tells when it has become faster.
func (l *link) connect() {
	l.stopTimer()
	if l.up || l.attempt != nil {
		return
	}
	if !l.agent.signaling.live(l.agent.ctx) {
		l.after(l.agent.o.Timing.Backoff, l.connect)
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
	l.offer(server, purposeConnect)
}

// reconnect moves a relayed link to the first TURN server of the list, or
// tries one that is down again.
func (l *link) reconnect() {
	if !l.offers() {
		l.retry() // waits for the peer's offer
		return
	}
	l.move(l.agent.pool.planned())
}

// moveOff moves the link away from a TURN server that it uses.
func (l *link) moveOff(server string) {
	if l.spare != nil && l.spare.server == server {
		l.dropSpare()
	}
	if l.conn != nil && l.conn.server == server && l.conn.relayed {
		l.move(l.agent.pool.planned())
	}
}

// move makes a new connection beside the one in use, or restarts ICE when the
// peer is a plain agent. What is under way to that server goes on: who asks
// twice does not wait longer. What cannot be done now is done later.
func (l *link) move(server string) {
	l.moving = l.moving || l.up && l.conn.relayed
	switch {
	case !l.agent.signaling.live(l.agent.ctx) || !l.agent.registered(l.peer):
	case l.attempt != nil && l.attempt.c.server == server && (!l.up || l.attempt.c.purpose == purposeMove):
	case !l.up:
		l.abandon()
		l.offer(server, purposeConnect)
	case l.conn.relayed:
		l.abandon()
		l.offer(server, purposeMove)
	}
}

// moveAgain goes on with a move whose attempt failed or could not be made.
func (l *link) moveAgain() {
	if l.moving && l.up && l.attempt == nil {
		l.move(l.agent.pool.planned())
	}
}

// renew moves a relayed link to the credentials of now, on the same server.
func (l *link) renew() {
	username, _ := l.agent.pool.credentials()
	if l.up && l.attempt == nil && l.conn.relayed && l.conn.username != username {
		l.move(l.conn.server)
	}
}

// peerLeft: nobody will answer an attempt. A link that works is left alone.
func (l *link) peerLeft() {
	if l.up {
		return
	}
	l.abandon()
	l.leave()
}

// leave ends the link to a peer that has left the mesh in order. One that only
// fell silent may be on the other side of a partition: it is waited for.
func (l *link) leave() {
	if l.conn == nil || l.conn.state() == wire.StateClosed {
		l.gone = true
	}
}

// fallBack excludes the current TURN server and has all of them checked.
func (l *link) fallBack(reason string) {
	if l.conn.server == "" {
		return
	}
	l.excluded[l.conn.server] = time.Now()
	l.agent.pool.suspect(l.conn.server, l.peer)
	if l.falling {
		return
	}
	l.falling = true
	l.agent.emit("turn_fallback_initiated", l.peer, metadata{"turn_server": l.conn.server, "reason": reason})
}

// timedOut: the attempt has had its time.
func (l *link) timedOut() {
	if l.attempt != nil {
		l.failed(fmt.Errorf("not connected after %s", time.Since(l.attempt.began).Round(time.Millisecond)))
	}
}

// patience is the time for the attempt under way. It grows when the whole list
// failed, or attempts beside a path that works: then the network or the machine
// may just be slow. Beside such a path the answering side leaves it to the peer
// to give up. An attempt that may use a direct path waits for it before it takes
// a relay.
func (l *link) patience() time.Duration {
	t := l.agent.o.Timing
	patience := t.Connect
	if !l.agent.o.RelayOnly {
		patience += t.Fallback
	}
	longer := min(l.rounds, mostPatient)
	if a := l.attempt; a.c.purpose != purposeConnect {
		longer = min(l.setbacks, mostPatient)
		if !a.offering {
			longer = mostPatient + 1
		}
	}
	return patience * time.Duration(1+longer)
}

const mostPatient = 4

// failed ends an attempt: its TURN server is excluded for this link and the
// next one is tried without delay. The answering side leaves that to the peer
// for as long as a first offer may take. An attempt beside a path that works
// just ends.
func (l *link) failed(err error) {
	server, why := "", purposeConnect
	if l.attempt != nil {
		server, why = l.attempt.c.server, l.attempt.c.purpose
	}
	l.abandon()
	if !l.up || why == purposeStandby {
		l.excluded[server] = time.Now()
	}
	if l.up {
		l.setbacks++
		return // a move is tried again by and by
	}
	l.tries++
	l.falling = l.falling || server != ""
	l.retrying(server, 0, err)
	if l.offers() {
		l.connect()
		return
	}
	l.after(l.agent.o.Timing.OfferSilence, l.connect)
}

// hopelessAfter is how often the whole list has to fail a link that never worked
// until others go before it.
const hopelessAfter = 3

// backOff waits 2^n times the base, as every server of the list failed, and
// then starts over with the whole list. In a partition the healing schedule
// says when.
func (l *link) backOff() {
	clear(l.excluded)
	l.agent.pool.checkSoon()
	if l.healing.active() {
		return
	}
	base := l.agent.o.Timing.Backoff
	wait := min(base<<min(l.rounds, 5), 30*base)
	wait = wait/2 + rand.N(wait) // a mesh must not try in step
	l.rounds++
	l.hopeless.Store(l.conn == nil && l.rounds >= hopelessAfter)
	l.retrying(l.agent.pool.first(), wait, errListFailed)
	l.after(wait, l.connect)
}

// retrying reports a failed attempt and when the next one comes.
func (l *link) retrying(server string, wait time.Duration, err error) {
	if server == "" {
		return // no TURN in it
	}
	l.agent.emit("turn_fallback_retry", l.peer, metadata{
		"turn_server": server, "attempt": l.tries, "delay_ms": millis(wait), "error": err.Error(),
	})
}

var errListFailed = errors.New("every TURN server of the list failed this link")

// lackDirect: an attempt that looks for a direct path has not found one in
// time.
func (l *link) lackDirect(now time.Time) {
	if a := l.attempt; a != nil && now.Sub(a.began) >= l.agent.o.Timing.Fallback {
		l.relayInstead(a.c)
	}
}

// relayInstead says once that a relay is used as there is no direct path.
func (l *link) relayInstead(c *connection) {
	o := l.agent.o
	if o.RelayOnly || l.falling || l.up || c.server == "" {
		return
	}
	l.falling = true
	l.agent.emit("turn_fallback_initiated", l.peer, metadata{
		"turn_server": c.server, "reason": "no direct path after " + o.Timing.Fallback.String(),
	})
}

// fallbackUnnecessary: a direct path was found although TURN was at hand.
func (l *link) fallbackUnnecessary(path string) {
	if l.conn.server != "" && !l.falling {
		l.agent.emit("turn_fallback_unnecessary", l.peer, metadata{"turn_server": l.conn.server, "candidateType": path})
	}
}

// answeringServer is the TURN server to answer with. A move goes to the first
// of the list, a standby to another one than is in use. An offer of a plain
// agent for a link that works is a planned move too. Else the server used so
// far is suspect here as well, unless its attempt has just begun: then it is
// the peer's server that failed faster; or the peer is a new agent, which knows
// nothing about that server.
func (l *link) answeringServer(offer string) string {
	c, pool, why := l.conn, l.agent.pool, purposeOf(offer)
	if l.startedAnew(offer) {
		return l.chooseAnyhow()
	}
	if a := l.attempt; a != nil && time.Since(a.began) > l.agent.o.Timing.Connect/2 {
		l.excluded[a.c.server] = time.Now() // the peer tries again
	}
	switch {
	case c == nil:
	case why == purposeStandby:
		if server, ok := pool.second(l.relayUsed(), l.excluded); ok {
			return server
		}
	case why == purposeMove:
		return pool.planned()
	case l.up && !l.ours() && c.vigil.lately():
		planned := pool.planned()
		if _, excluded := l.excluded[planned]; !excluded {
			return planned
		}
	case l.up && c.relayed:
		l.fallBack("the peer gives up a silent link")
	}
	return l.chooseAnyhow()
}

// chooseAnyhow does not wait when the whole list failed: the peer sets the pace.
func (l *link) chooseAnyhow() string {
	server, ok := l.agent.pool.choose(l.excluded)
	if !ok {
		clear(l.excluded)
		server, _ = l.agent.pool.choose(l.excluded)
	}
	return server
}
