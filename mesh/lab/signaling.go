package lab

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"

	"github.com/coder/websocket"

	"github.com/infrafabric/meshctl/mesh/wire"
)

const maxQueue = 1024 // frames that wait for one agent

// signaling relays SDP and candidates between agents.
type signaling struct {
	name     string
	seedOnly bool
	links    func() []wire.Link // of the lab's agents, for /stats

	mu     sync.Mutex
	agents map[string]*session
	errors int // error frames sent
}

// session is one WebSocket. Only the holder of signaling.mu uses id.
type session struct {
	id     string // "" until registered
	out    chan []byte
	cancel context.CancelFunc // ends the session
}

func newSignaling(name string, seedOnly bool, links func() []wire.Link) *signaling {
	return &signaling{name: name, seedOnly: seedOnly, links: links, agents: map[string]*session{}}
}

func (s *signaling) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.connect)
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { writeOK(w) })
	mux.HandleFunc("GET /stats", s.stats)
	mux.HandleFunc("GET /metrics", s.metrics)
	return mux
}

func (s *signaling) stats(w http.ResponseWriter, _ *http.Request) {
	ids := s.registered()
	reply := map[string]any{"total_agents": len(ids), "connections": connections(s.links(), s.seedOnly)}
	if !s.seedOnly {
		reply["server"], reply["local_agents"] = s.name, ids
	}
	writeJSON(w, http.StatusOK, reply)
}

func (s *signaling) metrics(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	count := s.errors
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = fmt.Fprintf(w, "# HELP webrtc_signaling_errors_total Error frames sent to agents.\n"+
		"# TYPE webrtc_signaling_errors_total counter\nwebrtc_signaling_errors_total %d\n", count)
}

// registered are the ids of all agents, sorted.
func (s *signaling) registered() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, slices.Sorted(maps.Keys(s.agents))...)
}

// connect serves one WebSocket until either end closes it.
func (s *signaling) connect(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	conn.SetReadLimit(wire.MaxFrame)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	me := &session{out: make(chan []byte, maxQueue), cancel: cancel}
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case frame := <-me.out:
				if conn.Write(ctx, websocket.MessageText, frame) != nil {
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
		to.send(signal)
	case signal.Type != wire.TypeCandidate: // candidates outlive their agents
		s.refuse(me, fmt.Sprintf("agent %q is not registered", signal.To))
	}
}

func (s *signaling) refuse(me *session, reason string) {
	s.errors++
	me.send(wire.Signal{Type: wire.TypeError, Message: reason})
}

func (s *signaling) leave(me *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
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
