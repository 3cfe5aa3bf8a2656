package mesh

import (
	"strings"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// linkable keeps agents of meshctl and those of the mesh apart: a test in
// production touches nothing but itself. Only sentinels link to everybody.
func linkable(self, peer string) bool {
	switch {
	case self == peer:
		return false
	case wire.Sentinel(self):
		return wire.Sentinel(peer) || !wire.OwnAgent(peer)
	case wire.Sentinel(peer):
		return !wire.OwnAgent(self)
	case wire.OwnAgent(self) && wire.OwnAgent(peer):
		return runOf(self) == runOf(peer)
	}
	return !wire.OwnAgent(self) && !wire.OwnAgent(peer)
}

// runOf is the id without its number.
func runOf(id string) string { return id[:strings.LastIndexByte(id, '-')] }

// receive handles one frame of the signaling server. It must not wait, since
// the next frame does.
func (a *Agent) receive(s wire.Signal) {
	switch s.Type {
	case wire.TypeRegistered:
		a.setPeers(s.ConnectedAgents)
	case wire.TypeAgentJoined:
		a.joined(s.AgentID)
	case wire.TypeAgentLeft:
		a.left(s.AgentID)
	case wire.TypeOffer, wire.TypeAnswer, wire.TypeCandidate:
		a.relayed(s)
	}
}

func (a *Agent) relayed(s wire.Signal) {
	if s.To != a.o.ID || !linkable(a.o.ID, s.From) {
		return
	}
	if s.Type == wire.TypeOffer {
		if l := a.link(s.From); l != nil {
			l.inbox.receive(len(s.Offer.SDP), func() { l.takeOffer(*s.Offer) })
		}
		return
	}
	l := a.existing(s.From)
	switch {
	case l == nil:
	case s.Type == wire.TypeAnswer:
		l.inbox.receive(len(s.Answer.SDP), func() { l.takeAnswer(*s.Answer) })
	default:
		l.inbox.receive(len(s.Candidate.Candidate), func() { l.takeCandidate(*s.Candidate) })
	}
}

func (a *Agent) setPeers(ids []string) {
	peers := make(map[string]bool, len(ids))
	for _, id := range ids {
		if id != a.o.ID {
			peers[id] = true
		}
	}
	a.mu.Lock()
	a.peers = peers
	a.mu.Unlock()
	for id := range peers {
		a.discovered(id)
	}
	a.kickLinks()
}

func (a *Agent) joined(id string) {
	if id == a.o.ID {
		return
	}
	a.mu.Lock()
	room := len(a.peers) < maxPeers
	if room {
		a.peers[id] = true
	}
	a.mu.Unlock()
	if room {
		a.discovered(id)
	}
}

// left: a peer that signaling has lost is not one that its link has lost.
func (a *Agent) left(id string) {
	a.mu.Lock()
	delete(a.peers, id)
	a.mu.Unlock()
	if l := a.existing(id); l != nil {
		l.inbox.receive(0, l.peerLeft)
	}
}

// discovered starts a link to a peer that is new, or continues one that waits.
func (a *Agent) discovered(id string) {
	l := a.existing(id)
	if l == nil && !a.o.Passive && linkable(a.o.ID, id) {
		l = a.link(id)
	}
	if l != nil {
		l.inbox.receive(0, l.kick)
	}
}

// kickLinks lets every link that is down try again: signaling or a TURN server
// is back.
func (a *Agent) kickLinks() {
	for _, l := range a.allLinks() {
		l.inbox.receive(0, l.retry)
	}
}

func (a *Agent) registered(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peers[id]
}

func (a *Agent) existing(peer string) *link {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.links[peer]
}

func (a *Agent) allLinks() []*link {
	a.mu.Lock()
	defer a.mu.Unlock()
	links := make([]*link, 0, len(a.links))
	for _, l := range a.links {
		links = append(links, l)
	}
	return links
}

// link gives the link to a peer, a new one if there is none. It is nil when
// the agent is closing or has too many.
func (a *Agent) link(peer string) *link {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.links[peer]; l != nil {
		return l
	}
	if len(a.links) >= maxLinks {
		a.giveUpOne()
	}
	if a.ctx.Err() != nil || len(a.links) >= maxLinks {
		return nil
	}
	l := newLink(a, peer)
	a.links[peer] = l
	a.wg.Go(l.run)
	return l
}

// giveUpOne makes room: a link without hope is ended. Agents that crash and come
// back under new names would fill the list by and by, and so would those that
// a registry never forgets.
func (a *Agent) giveUpOne() {
	for peer, l := range a.links {
		if l.hopeless.Load() {
			delete(a.links, peer)
			l.inbox.post(func() { l.gone = true })
			return
		}
	}
}

func (a *Agent) forget(l *link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.links[l.peer] == l {
		delete(a.links, l.peer)
		a.leaveEstate(l)
	}
}
