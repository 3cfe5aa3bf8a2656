package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/lab/network"
	"github.com/infrafabric/meshctl/mesh/wire"
)

const maxQueue = 1024 // frames that wait for one agent

// The faults of a signaling server, beside being down.
const (
	faultHangs = "signaling-hangs"
	fault401   = "signaling-401"
)

// registry is who is registered. Servers that share one relay between each
// other's agents.
type registry struct {
	mu     sync.Mutex
	agents map[string]*session
}

func newRegistry() *registry { return &registry{agents: map[string]*session{}} }

// ids are those of all agents, sorted.
func (r *registry) ids() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, slices.Sorted(maps.Keys(r.agents))...)
}

// signaling relays SDP and candidates between agents.
type signaling struct {
	*registry
	name     string
	seedOnly bool
	links    func() []wire.Link // of the lab's agents, for /stats
	faults   switches
	network  *network.Network // learns who owns which address; nil: nobody asks

	sessions map[*session]bool // open here; guarded by registry.mu
	errors   int               // error frames sent; guarded by registry.mu
}

// session is one WebSocket. Only the holder of registry.mu uses id.
type session struct {
	server *signaling
	id     string // "" until registered
	out    chan []byte
	cancel context.CancelFunc // ends the session
	cut    func()             // ends the socket alone
	ghost  atomic.Bool        // nobody is at the other end, and the server does not know
}

func newSignaling(name string, seedOnly bool, links func() []wire.Link, r *registry) *signaling {
	return &signaling{registry: r, name: name, seedOnly: seedOnly, links: links, sessions: map[*session]bool{}}
}

// set breaks the server or makes it whole again.
func (s *signaling) set(fault string, on bool) {
	s.faults.set(fault, on)
	if fault != faultHangs || !on {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		session.cancel()
	}
}

func (s *signaling) handler() http.Handler {
	mux := s.mux()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.faults.is(faultHangs) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(w, r)
	})
}

func (s *signaling) mux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.connect)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { writeOK(w) })
	mux.HandleFunc("GET /stats", s.stats)
	mux.HandleFunc("GET /metrics", s.metrics)
	return mux
}

func (s *signaling) stats(w http.ResponseWriter, _ *http.Request) {
	reply := map[string]any{"total_agents": len(s.ids()), "connections": connections(s.links(), s.seedOnly)}
	if !s.seedOnly {
		reply["server"], reply["local_agents"] = s.name, s.local()
	}
	writeJSON(w, http.StatusOK, reply)
}

func (s *signaling) metrics(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	count := s.errors
	s.mu.Unlock()
	w.Header().Set("Content-Type", metricsType)
	_, _ = fmt.Fprintf(w, "# HELP webrtc_signaling_errors_total Error frames sent to agents.\n"+
		"# TYPE webrtc_signaling_errors_total counter\nwebrtc_signaling_errors_total %d\n", count)
}

// evict forgets every agent whose socket is here and tells it and the others
// that it has left, as a server does that mistakes the end of an agent's older
// socket for the end of its newer one.
func (s *signaling) evict() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, session := range s.agents {
		if session.server != s {
			continue
		}
		for _, to := range s.agents {
			to.send(wire.Signal{Type: wire.TypeAgentLeft, AgentID: id})
		}
		delete(s.agents, id)
	}
}

// haunt cuts the sockets of all agents here and keeps the sessions, as a server
// does that does not notice: each holds its id until the agent registers again.
func (s *signaling) haunt() {
	s.mu.Lock()
	sessions := slices.Collect(maps.Keys(s.sessions))
	s.mu.Unlock()
	for _, session := range sessions {
		session.ghost.Store(true)
		session.cut()
	}
}

// exorcise ends the sessions of nobody.
func (s *signaling) exorcise() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session := range s.sessions {
		if session.ghost.Load() {
			session.cancel()
		}
	}
}

// local are the ids of the agents whose socket is here, sorted.
func (s *signaling) local() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := []string{}
	for id, session := range s.agents {
		if session.server == s {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// connect serves one WebSocket until either end closes it.
func (s *signaling) connect(w http.ResponseWriter, r *http.Request) {
	if s.faults.is(fault401) {
		writeError(w, http.StatusUnauthorized, errors.New("unauthorized"))
		return
	}
	// Agents can be pages of this machine; those of other sites are kept out.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: []string{"127.0.0.1:*"}})
	if err != nil {
		return // Accept has answered
	}
	conn.SetReadLimit(wire.MaxFrame)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	me := &session{server: s, out: make(chan []byte, maxQueue), cancel: cancel, cut: func() { _ = conn.CloseNow() }}
	s.enter(me)
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case frame := <-me.out:
				if conn.Write(ctx, websocket.MessageText, frame) != nil && !me.ghost.Load() {
					return
				}
			}
		}
	}()
	for {
		kind, frame, err := conn.Read(ctx)
		if err != nil {
			break
		}
		s.receive(me, kind, frame)
	}
	if me.ghost.Load() {
		<-ctx.Done()
	}
	cancel()
	<-written
	_ = conn.CloseNow()
	s.leave(me)
}

// receive handles one frame of an agent.
func (s *signaling) receive(me *session, kind websocket.MessageType, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	signal, err := wire.DecodeSignal(frame)
	switch {
	case kind != websocket.MessageText:
		s.refuse(me, "not a text frame")
	case err != nil:
		s.refuse(me, err.Error())
	case signal.Type == wire.TypeRegister:
		s.register(me, signal.AgentID)
	case signal.Type == wire.TypeOffer, signal.Type == wire.TypeAnswer, signal.Type == wire.TypeCandidate:
		s.relay(me, signal)
	}
}

// register makes the agent known. A socket that had the id before is closed:
// it is the ghost of the same agent.
func (s *signaling) register(me *session, id string) {
	if me.id != "" && me.id != id {
		s.refuse(me, "this socket is registered as "+me.id)
		return
	}
	old := s.agents[id]
	me.id = id
	s.agents[id] = me
	if old != nil && old != me {
		old.cancel()
	}
	others := []string{}
	for other, to := range s.agents {
		if other != id {
			others = append(others, other)
			to.send(wire.Signal{Type: wire.TypeAgentJoined, AgentID: id})
		}
	}
	slices.Sort(others)
	me.send(wire.Signal{Type: wire.TypeRegistered, AgentID: id, ConnectedAgents: others})
}

// relay passes a frame on. The sender is who registered, whatever it says.
func (s *signaling) relay(me *session, signal wire.Signal) {
	if me.id == "" || s.agents[me.id] != me {
		s.refuse(me, "not registered")
		return
	}
	to := s.agents[signal.To]
	switch {
	case to != nil:
		signal.From = me.id
		s.learn(signal)
		to.send(signal)
	case signal.Type != wire.TypeCandidate: // candidates outlive their agents
		s.refuse(me, fmt.Sprintf("agent %q is not registered", signal.To))
	}
}

// learn tells the network whose candidates these are, before the peer can use
// them.
func (s *signaling) learn(signal wire.Signal) {
	switch {
	case s.network == nil:
	case signal.Candidate != nil:
		s.network.LearnCandidate(signal.Candidate.Candidate, signal.From)
	case signal.Offer != nil:
		s.network.LearnDescription(signal.Offer.SDP, signal.From)
	case signal.Answer != nil:
		s.network.LearnDescription(signal.Answer.SDP, signal.From)
	}
}

func (s *signaling) refuse(me *session, reason string) {
	s.errors++
	me.send(wire.Signal{Type: wire.TypeError, Message: reason})
}

func (s *signaling) enter(me *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[me] = true
	if s.faults.is(faultHangs) {
		me.cancel() // it came in just before
	}
}

func (s *signaling) leave(me *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, me)
	if me.id == "" || s.agents[me.id] != me {
		return
	}
	delete(s.agents, me.id)
	for _, to := range s.agents {
		to.send(wire.Signal{Type: wire.TypeAgentLeft, AgentID: me.id})
	}
}

// send never waits: an agent that does not read is cut off.
func (me *session) send(signal wire.Signal) {
	select {
	case me.out <- signal.Encode():
	default:
		me.cancel()
	}
}
