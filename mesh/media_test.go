package mesh

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/lab/network"
)

// TestMediaLoss lets two agents send each other audio over a path that loses a
// fifth of one direction: the receiver of that direction counts it.
func TestMediaLoss(t *testing.T) {
	bad := network.New(1)
	t.Cleanup(func() { _ = bad.Close() })
	m := newTestMesh(t)
	for _, id := range []string{"a", "b"} {
		sockets, err := bad.Net(id)
		if err != nil {
			t.Fatal(err)
		}
		m.add(id, func(o *AgentOptions) { o.Media, o.Net, o.Timing.Quality = true, sockets, 100*time.Millisecond })
	}
	m.connectAll()
	if err := bad.Add(network.Rule{From: "a", To: "b", Impairment: network.Impairment{Loss: 0.2}}); err != nil {
		t.Fatal(err)
	}
	m.eventually("the receiver counts lost packets", func() error {
		lost, received, err := m.audio("b")
		if err == nil && (lost < 10 || received < 50) {
			err = fmt.Errorf("%v lost, %v received", lost, received)
		}
		return err
	})
	if lost, received, err := m.audio("a"); err != nil || lost > 0 || received == 0 {
		t.Errorf("the other way: %d lost, %d received, %v", lost, received, err)
	}
}

// audio is what an agent last said of the audio that comes in.
func (m *testMesh) audio(agent string) (lost int32, received uint32, err error) {
	for _, e := range m.events.named("connection_quality_update") {
		if e.AgentID != agent {
			continue
		}
		lost, _ = e.Metadata["rtp_packets_lost"].(int32)
		received, _ = e.Metadata["rtp_packets_received"].(uint32)
	}
	if received == 0 {
		err = errors.New("no audio yet")
	}
	return lost, received, err
}

// TestMediaIsOptional: an agent with audio and one without, whoever offers.
func TestMediaIsOptional(t *testing.T) {
	for _, offering := range []bool{true, false} {
		t.Run(fmt.Sprintf("offering %t", offering), func(t *testing.T) {
			m := newTestMesh(t)
			m.add("a", func(o *AgentOptions) { o.Media = offering })
			m.add("b", func(o *AgentOptions) { o.Media = !offering })
			m.connectAll()
			m.eventually("a message passes", func() error {
				_, err := m.agents[0].Send("b", map[string]int{"n": 1})
				return err
			})
		})
	}
}
