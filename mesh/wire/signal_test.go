package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeSignal(t *testing.T) {
	mid, line := "0", uint16(0)
	for _, tt := range []struct {
		name, frame string
		want        Signal
	}{
		{"register", `{"type":"register","agent_id":"a"}`, Signal{Type: TypeRegister, AgentID: "a"}},
		{"registered", `{"type":"registered","agent_id":"a","connected_agents":["b","c"]}`,
			Signal{Type: TypeRegistered, AgentID: "a", ConnectedAgents: []string{"b", "c"}}},
		{"registered alone", `{"type":"registered","agent_id":"a","connected_agents":[]}`,
			Signal{Type: TypeRegistered, AgentID: "a", ConnectedAgents: []string{}}},
		{"agent-joined", `{"type":"agent-joined","agent_id":"b"}`, Signal{Type: TypeAgentJoined, AgentID: "b"}},
		{"agent-left", `{"type":"agent-left","agent_id":"b"}`, Signal{Type: TypeAgentLeft, AgentID: "b"}},
		{"offer", `{"type":"offer","from":"a","to":"b","offer":{"type":"offer","sdp":"v=0\r\n"}}`,
			Signal{Type: TypeOffer, From: "a", To: "b", Offer: &SessionDescription{"offer", "v=0\r\n"}}},
		{"answer", `{"type":"answer","from":"b","to":"a","answer":{"type":"answer","sdp":"v=0\r\n"}}`,
			Signal{Type: TypeAnswer, From: "b", To: "a", Answer: &SessionDescription{"answer", "v=0\r\n"}}},
		{"candidate", `{"type":"ice-candidate","from":"a","to":"b","candidate":{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}}`,
			Signal{Type: TypeCandidate, From: "a", To: "b", Candidate: &Candidate{"candidate:1", &mid, &line, nil}}},
		{"error", `{"type":"error","message":"unknown target"}`, Signal{Type: TypeError, Message: "unknown target"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeSignal([]byte(tt.frame))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if back := string(got.Encode()); back != tt.frame {
				t.Errorf("encoded\ngot  %s\nwant %s", back, tt.frame)
			}
		})
	}
}

func TestRegisteredAlwaysListsAgents(t *testing.T) {
	got := string(Signal{Type: TypeRegistered, AgentID: "a"}.Encode())
	if want := `{"type":"registered","agent_id":"a","connected_agents":[]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUnknownTypesAndFieldsDecode(t *testing.T) {
	got, err := DecodeSignal([]byte(`{"type":"server-going-down","at":5,"agent_id":"a"}`))
	if err != nil || got.Type != "server-going-down" {
		t.Errorf("got %+v, error %v", got, err)
	}
}

func TestDecodeSignalRefuses(t *testing.T) {
	for _, tt := range []struct{ name, frame, want string }{
		{"empty", ``, "unexpected end"},
		{"half", `{"type":"register"`, "unexpected end"},
		{"array", `[]`, "array"},
		{"null", `null`, "no type"},
		{"no type", `{"agent_id":"a"}`, "no type"},
		{"type is a number", `{"type":1}`, "type"},
		{"register without id", `{"type":"register"}`, "no agent_id"},
		{"registered without id", `{"type":"registered","connected_agents":[]}`, "no agent_id"},
		{"registered without agents", `{"type":"registered","agent_id":"a"}`, "no connected_agents"},
		{"registered with null", `{"type":"registered","agent_id":"a","connected_agents":null}`, "no connected_agents"},
		{"registered with an empty id", `{"type":"registered","agent_id":"a","connected_agents":[""]}`, "empty or too long"},
		{"registered with many", `{"type":"registered","agent_id":"a","connected_agents":["b"` + strings.Repeat(`,"b"`, maxAgents) + `]}`, "more than 10000"},
		{"joined without id", `{"type":"agent-joined"}`, "no agent_id"},
		{"offer without from", `{"type":"offer","to":"b","offer":{"type":"offer","sdp":"v=0"}}`, "no from"},
		{"offer without to", `{"type":"offer","from":"a","offer":{"type":"offer","sdp":"v=0"}}`, "no from or no to"},
		{"offer without offer", `{"type":"offer","from":"a","to":"b"}`, "no offer.sdp"},
		{"offer without sdp", `{"type":"offer","from":"a","to":"b","offer":{}}`, "no offer.sdp"},
		{"answer with an offer", `{"type":"answer","from":"a","to":"b","offer":{"type":"offer","sdp":"v=0"}}`, "no answer.sdp"},
		{"candidate without candidate", `{"type":"ice-candidate","from":"a","to":"b"}`, "no candidate"},
		{"candidate line out of range", `{"type":"ice-candidate","from":"a","to":"b","candidate":{"sdpMLineIndex":65536}}`, "sdpMLineIndex"},
		{"long candidate", `{"type":"ice-candidate","from":"a","to":"b","candidate":{"candidate":"","sdpMid":"` + strings.Repeat("x", maxLine+1) + `"}}`, "longer than 4096"},
		{"long id", `{"type":"register","agent_id":"` + strings.Repeat("a", 257) + `"}`, "longer than 256"},
		{"large", `{"type":"` + strings.Repeat("x", MaxFrame) + `"}`, "more than 262144"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeSignal([]byte(tt.frame))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %+v, error %v, want %q", got, err, tt.want)
			}
			if strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
				t.Errorf("not one short line: %q", err)
			}
		})
	}
}

func TestOwnAgent(t *testing.T) {
	for id, want := range map[string]bool{"meshctl-01J-1": true, "meshctl": false, "agent-meshctl-1": false, "": false} {
		if got := OwnAgent(id); got != want {
			t.Errorf("%q: got %v", id, got)
		}
	}
}

func FuzzDecodeSignal(f *testing.F) {
	f.Add([]byte(`{"type":"registered","agent_id":"a","connected_agents":["b"]}`))
	f.Add([]byte(`{"type":"offer","from":"a","to":"b","offer":{"type":"offer","sdp":"v=0"}}`))
	f.Add([]byte(`{"type":"ice-candidate","from":"a","to":"b","candidate":{"candidate":"","sdpMid":null,"sdpMLineIndex":1}}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		s, err := DecodeSignal(frame)
		if err != nil {
			return
		}
		again, err := DecodeSignal(s.Encode())
		if err != nil && len(s.Encode()) <= MaxFrame {
			t.Fatalf("of %q: %q: %v", frame, s.Encode(), err)
		}
		if err == nil && again.Type != s.Type {
			t.Fatalf("of %q: got type %q, then %q", frame, s.Type, again.Type)
		}
	})
}
