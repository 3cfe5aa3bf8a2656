package mesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// SignalingState is where an agent is registered.
type SignalingState struct {
	Server     string // "" before the first registration
	Registered bool   // now
	Primary    bool   // Server is the first of the list
	Failovers  int    // changes of server so far
	// Missing are peers with a link that works which the server does not know:
	// its registry is not shared with the one where they are.
	Missing []string
}

// Signaling tells where the agent is registered.
func (a *Agent) Signaling() SignalingState {
	s := a.signaling
	s.mu.Lock()
	state := SignalingState{Registered: s.conn != nil, Failovers: s.fallovers}
	if s.server != nil {
		state.Server, state.Primary = s.server.Redacted(), s.server == s.urls[0]
	}
	s.mu.Unlock()
	if state.Registered {
		state.Missing = a.missing()
	}
	return state
}

// missing are the peers that links reach and signaling does not know.
func (a *Agent) missing() []string {
	var ids []string
	for _, l := range a.Links() {
		if l.State == wire.StateConnected && !a.registered(l.Peer) {
			ids = append(ids, l.Peer)
		}
	}
	return ids
}

// splitNoticed reports a registry that lacks peers although they had time to
// register again. Links go on; new ones between the halves are not possible.
func (a *Agent) splitNoticed(server string) {
	ids := a.missing()
	if len(ids) == 0 {
		return
	}
	a.emit("signaling_connection_failed", "", metadata{
		"server": server, "attempt": 0, "missing_peers": len(ids),
		"error": fmt.Sprintf("the registry is split: %s unknown here and linked", strings.Join(ids[:min(len(ids), 5)], ", ")),
	})
}

// better is a registration with a server that comes before the one in use.
type better struct {
	server     *url.URL
	conn       *websocket.Conn
	registered wire.Signal
}

// takeOver is how long after the end of a socket the registration that has
// replaced it may come.
const takeOver = time.Second

// attend looks after a registration until ctx ends: whether the registry knows
// the peers that links reach, and whether a server is back that is preferred.
// The new registration stands before the old one ends; where servers share their
// registry, they end the old one as soon as they have taken the new one, which
// we hear a moment later.
func (s *signaling) attend(ctx, agent context.Context, conn *websocket.Conn) {
	beside, stop := context.WithCancel(agent)
	defer stop()
	context.AfterFunc(ctx, func() { time.AfterFunc(takeOver, stop) })
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	preferred := s.urls[:slices.Index(s.urls, server)]
	for first := true; ; first = false {
		wait := s.timing.Return
		timer := time.NewTimer(wait/2 + rand.N(wait)) // not all agents at once
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if first {
			s.settled(server.Redacted())
		}
		if len(preferred) == 0 {
			return
		}
		for _, u := range preferred {
			next, registered, err := s.register(beside, u)
			if err != nil {
				continue
			}
			s.mu.Lock()
			s.better = &better{u, next, registered}
			s.mu.Unlock()
			_ = conn.CloseNow() // serve ends
			return
		}
	}
}

// change takes the better registration that attend has found, if any.
func (s *signaling) change() *websocket.Conn {
	s.mu.Lock()
	b := s.better
	s.better = nil
	s.mu.Unlock()
	if b == nil {
		return nil
	}
	s.connected(b.server, 1)
	s.alive()
	s.use(b.conn)
	s.receive(b.registered)
	return b.conn
}
