// Package wire answers: what exactly do the messages of the mesh look like, and
// is this one well-formed?
//
// It holds the forms that agents, signaling servers and the controller
// exchange, without any network: server URIs, signaling frames, IFMessages
// with their signature, and the links of the statistics.
package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// MaxFrame is the largest signaling frame in bytes; an SDP has a few thousand.
const MaxFrame = 256 << 10

const (
	maxID     = 256    // bytes of an agent id
	maxAgents = 10_000 // agents in one registered frame
	maxLine   = 4096   // bytes of a candidate; one line of an SDP
)

// The types of signaling frames. Others may exist and are to be ignored.
const (
	TypeRegister    = "register"
	TypeRegistered  = "registered"
	TypeAgentJoined = "agent-joined"
	TypeAgentLeft   = "agent-left"
	TypeOffer       = "offer"
	TypeAnswer      = "answer"
	TypeCandidate   = "ice-candidate"
	TypeError       = "error"
)

// OwnPrefix starts the ids of the agents that meshctl itself puts into a mesh,
// meshctl-RUN-N, so that it never counts them as the mesh's own.
const OwnPrefix = "meshctl-"

// OwnAgent tells whether the id is of an agent of meshctl.
func OwnAgent(id string) bool { return strings.HasPrefix(id, OwnPrefix) }

// SentinelPrefix starts the ids of long-lived agents of meshctl, which link to
// the mesh's own agents. They are not counted either.
const SentinelPrefix = OwnPrefix + "sentinel-"

// Sentinel tells whether the id is of a long-lived agent of meshctl.
func Sentinel(id string) bool { return strings.HasPrefix(id, SentinelPrefix) }

// Signal is one frame between an agent and a signaling server. Which fields
// are set depends on Type.
type Signal struct {
	Type            string              `json:"type"`
	AgentID         string              `json:"agent_id,omitempty"`
	ConnectedAgents []string            `json:"connected_agents,omitempty"` // the others, in "registered"
	From            string              `json:"from,omitempty"`
	To              string              `json:"to,omitempty"`
	Offer           *SessionDescription `json:"offer,omitempty"`
	Answer          *SessionDescription `json:"answer,omitempty"`
	Candidate       *Candidate          `json:"candidate,omitempty"`
	Message         string              `json:"message,omitempty"` // in "error"
}

// SessionDescription is the RTCSessionDescriptionInit of WebRTC.
type SessionDescription struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// Candidate is the RTCIceCandidateInit of WebRTC; an empty Candidate text
// means the end of the candidates.
type Candidate struct {
	Candidate        string  `json:"candidate"`
	SDPMid           *string `json:"sdpMid"`
	SDPMLineIndex    *uint16 `json:"sdpMLineIndex"`
	UsernameFragment *string `json:"usernameFragment"`
}

func (c Candidate) length() int {
	n := len(c.Candidate)
	for _, text := range []*string{c.SDPMid, c.UsernameFragment} {
		if text != nil {
			n += len(*text)
		}
	}
	return n
}

// DecodeSignal reads a frame and checks that it has the fields its type needs.
// A frame of a type not listed here decodes without checks; callers ignore it.
func DecodeSignal(frame []byte) (Signal, error) {
	if len(frame) > MaxFrame {
		return Signal{}, fmt.Errorf("signaling frame: %d bytes, more than %d", len(frame), MaxFrame)
	}
	var s Signal
	if err := json.Unmarshal(frame, &s); err != nil {
		return Signal{}, fmt.Errorf("signaling frame: %w", err)
	}
	if s.Type == "" {
		return Signal{}, errors.New("signaling frame: no type")
	}
	if err := s.check(); err != nil {
		return Signal{}, fmt.Errorf("signaling frame %s: %w", shorten(s.Type, 40), err)
	}
	return s, nil
}

func (s Signal) check() error {
	if len(s.AgentID) > maxID || len(s.From) > maxID || len(s.To) > maxID {
		return fmt.Errorf("an id longer than %d bytes", maxID)
	}
	switch s.Type {
	case TypeRegister, TypeAgentJoined, TypeAgentLeft:
		return need(s.AgentID != "", "agent_id")
	case TypeRegistered:
		return s.checkRegistered()
	case TypeOffer:
		return s.relayed(s.Offer != nil && s.Offer.SDP != "", "offer.sdp")
	case TypeAnswer:
		return s.relayed(s.Answer != nil && s.Answer.SDP != "", "answer.sdp")
	case TypeCandidate:
		if s.Candidate != nil && s.Candidate.length() > maxLine {
			return fmt.Errorf("candidate: longer than %d bytes", maxLine)
		}
		return s.relayed(s.Candidate != nil, "candidate")
	}
	return nil
}

func (s Signal) checkRegistered() error {
	if len(s.ConnectedAgents) > maxAgents {
		return fmt.Errorf("more than %d connected_agents", maxAgents)
	}
	for _, id := range s.ConnectedAgents {
		if id == "" || len(id) > maxID {
			return errors.New("connected_agents: an id is empty or too long")
		}
	}
	if s.AgentID == "" {
		return errors.New("no agent_id")
	}
	return need(s.ConnectedAgents != nil, "connected_agents")
}

func (s Signal) relayed(has bool, field string) error {
	if s.From == "" || s.To == "" {
		return errors.New("no from or no to")
	}
	return need(has, field)
}

func need(has bool, field string) error {
	if has {
		return nil
	}
	return fmt.Errorf("no %s", field)
}

// Encode writes the frame as it goes over the WebSocket. "registered" always
// carries connected_agents, [] when there are no others.
func (s Signal) Encode() []byte {
	var v any = s
	if s.Type == TypeRegistered {
		type plain Signal
		others := append([]string{}, s.ConnectedAgents...)
		v = struct {
			plain
			ConnectedAgents []string `json:"connected_agents"`
		}{plain(s), others}
	}
	frame, err := json.Marshal(v)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	return frame
}
