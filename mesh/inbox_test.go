package mesh

import (
	"fmt"
	"testing"
)

// TestFramesDoNotCrowdOutOwnWork: a signaling server that sends more than a
// link can take loses frames of its own, and nothing else.
func TestFramesDoNotCrowdOutOwnWork(t *testing.T) {
	b := newInbox()
	frames, own := 0, 0
	for range 10_000 {
		b.receive(1000, func() { frames++ })
		b.post(func() { own++ })
	}
	for _, work := range b.take() {
		work()
	}
	if frames == 0 || frames*1000 > maxForeign || own != 10_000 {
		t.Errorf("%d frames and %d of 10000 pieces of own work were kept", frames, own)
	}
	b.receive(1000, func() { frames = -1 })
	for _, work := range b.take() {
		work()
	}
	if frames != -1 {
		t.Error("no frame is taken after the queue was emptied")
	}
}

// TestPeersAreBounded: ids that signaling announces without end.
func TestPeersAreBounded(t *testing.T) {
	m := newTestMesh(t)
	a := m.add("a1", func(o *AgentOptions) { o.Passive = true })
	for i := range maxPeers + 100 {
		a.joined(fmt.Sprintf("ghost-%d", i))
	}
	if n := len(a.Peers()); n != maxPeers {
		t.Errorf("%d peers, want the bound of %d", n, maxPeers)
	}
	a.left("ghost-7")
	a.joined("new")
	if !a.registered("new") {
		t.Error("no room after one has left")
	}
}
