package mesh

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// stranger is an agent of somebody else: it speaks the protocol of the mesh on
// a bare WebSocket and with a bare PeerConnection, and does not behave.
type stranger struct {
	t    *testing.T
	id   string
	conn *websocket.Conn
	ctx  context.Context

	flushes  int
	messages *webrtc.DataChannel
	offered  atomic.Pointer[wire.SessionDescription] // the last offer
	mu       sync.Mutex
	frames   []wire.Signal
	pc       *webrtc.PeerConnection
	open     chan *webrtc.DataChannel // if-agent-messaging channels that have opened
	got      []wire.Message
}

func newStranger(t *testing.T, url, id string) *stranger {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(-1)
	s := &stranger{t: t, id: id, conn: conn, ctx: ctx, open: make(chan *webrtc.DataChannel, 512)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.read()
	}()
	t.Cleanup(func() {
		cancel()
		_ = conn.CloseNow()
		<-read
		if s.pc != nil {
			_ = s.pc.GracefulClose()
		}
	})
	s.send(wire.Signal{Type: wire.TypeRegister, AgentID: id})
	return s
}

func (s *stranger) read() {
	for {
		_, frame, err := s.conn.Read(s.ctx)
		if err != nil {
			return
		}
		var signal wire.Signal
		if json.Unmarshal(frame, &signal) != nil {
			continue
		}
		s.mu.Lock()
		s.frames = append(s.frames, signal)
		s.mu.Unlock()
	}
}

func (s *stranger) send(signal wire.Signal) { s.sendRaw(signal.Encode()) }

func (s *stranger) sendRaw(frame []byte) {
	s.t.Helper()
	if err := s.conn.Write(s.ctx, websocket.MessageText, frame); err != nil {
		s.t.Fatal(err)
	}
}

// flush returns when an agent has read all frames that the stranger has sent:
// by one that the agent says something about, in its turn.
func (s *stranger) flush(m *testMesh, to *Agent) {
	s.t.Helper()
	s.flushes++
	mark := fmt.Sprintf("mark-%d", s.flushes)
	m.signal.intercept(func(signal wire.Signal, forward func(wire.Signal)) bool {
		if signal.Type != wire.TypeCandidate || signal.Candidate.Candidate != mark {
			return false
		}
		forward(wire.Signal{Type: wire.TypeAgentJoined, AgentID: mark, To: to.ID()})
		return true
	})
	s.send(wire.Signal{Type: wire.TypeCandidate, From: s.id, To: to.ID(), Candidate: &wire.Candidate{Candidate: mark}})
	m.eventually("everything is read", func() error {
		if !to.registered(mark) {
			return fmt.Errorf("%s is not", mark)
		}
		return nil
	})
}

// received are the frames of a type so far.
func (s *stranger) received(kind string) (list []wire.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.frames {
		if f.Type == kind {
			list = append(list, f)
		}
	}
	return list
}

// peer makes the stranger's PeerConnection. Its candidates are in its
// descriptions.
func (s *stranger) peer() *webrtc.PeerConnection {
	s.t.Helper()
	timing := LabTiming()
	var engine webrtc.SettingEngine
	engine.LoggerFactory = silence{}
	engine.SetIncludeLoopbackCandidate(true)
	engine.SetIPFilter(net.IPv4(127, 0, 0, 1).Equal)
	engine.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	engine.SetICETimeouts(timing.Disconnected, timing.Failed, timing.Keepalive)
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(engine)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		s.t.Fatal(err)
	}
	pc.OnDataChannel(s.serve)
	s.pc = pc
	return pc
}

func (s *stranger) serve(dc *webrtc.DataChannel) {
	if dc.Label() != channelLabel {
		return
	}
	dc.OnOpen(func() { s.open <- dc })
	dc.OnMessage(func(m webrtc.DataChannelMessage) {
		message, err := wire.DecodeMessage(m.Data)
		if err != nil {
			s.t.Errorf("the stranger got %q: %v", m.Data, err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got = append(s.got, message)
	})
}

// channel waits for an open if-agent-messaging channel.
func (s *stranger) channel() *webrtc.DataChannel {
	s.t.Helper()
	select {
	case dc := <-s.open:
		return dc
	case <-time.After(30 * time.Second):
		s.t.Fatal("no channel has opened")
		return nil
	}
}

// local sets a description and waits until all its candidates are in it.
func (s *stranger) local(d webrtc.SessionDescription, err error) string {
	s.t.Helper()
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err == nil {
		err = s.pc.SetLocalDescription(d)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	<-gathered
	return s.pc.LocalDescription().SDP
}

// offer connects the stranger to an agent by an offer of its own, and gives the
// SDP of the offer.
func (s *stranger) offer(m *testMesh, to string) string {
	s.t.Helper()
	var err error
	if s.messages, err = s.peer().CreateDataChannel(channelLabel, nil); err != nil {
		s.t.Fatal(err)
	}
	s.serve(s.messages)
	return s.renegotiate(m, to)
}

// answered is the last answer that it got.
func (s *stranger) answered() string {
	answers := s.received(wire.TypeAnswer)
	return answers[len(answers)-1].Answer.SDP
}

// say sends a signed message on the channel that it opened.
func (s *stranger) say(t *testing.T, text string) {
	t.Helper()
	message, err := wire.NewMessage(s.id, "b", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err == nil {
		err = message.Sign(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := message.Encode()
	if err != nil {
		t.Fatal(err)
	}
	s.sendText(string(raw) + text)
}

func (s *stranger) sendText(text string) {
	s.t.Helper()
	if err := s.messages.SendText(text); err != nil {
		s.t.Fatal(err)
	}
}

// renegotiate sends an offer for the PeerConnection there is and takes the
// answer.
func (s *stranger) renegotiate(m *testMesh, to string) string {
	s.t.Helper()
	sdp := s.local(s.pc.CreateOffer(nil))
	before := len(s.received(wire.TypeAnswer))
	s.offered.Store(&wire.SessionDescription{Type: "offer", SDP: sdp})
	s.send(wire.Signal{Type: wire.TypeOffer, From: s.id, To: to, Offer: s.offered.Load()})
	m.eventually("an answer to "+s.id, func() error {
		if n := len(s.received(wire.TypeAnswer)); n <= before {
			return fmt.Errorf("%d answers", n)
		}
		return nil
	})
	answer := strings.Replace(s.received(wire.TypeAnswer)[before].Answer.SDP, // it minds no limit
		fmt.Sprintf("max-message-size:%d", wire.MaxMessage), "max-message-size:10000000", 1)
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		s.t.Fatal(err)
	}
	for _, c := range s.received(wire.TypeCandidate) {
		_ = s.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.Candidate.Candidate, SDPMid: c.Candidate.SDPMid, SDPMLineIndex: c.Candidate.SDPMLineIndex})
	}
	return sdp
}
