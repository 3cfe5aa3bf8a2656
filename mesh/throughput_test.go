package mesh

import (
	"crypto/ed25519"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// throughputTime is how long each side of the comparison sends.
const throughputTime = 2 * time.Second

// BenchmarkThroughput compares what one pair of agents delivers, in signed
// messages with 1 KiB of payload, with two bare PeerConnections that carry the
// same signed bytes: made, signed and verified there too, as that is the price
// of the message and not of the agent.
func BenchmarkThroughput(b *testing.B) {
	payload := map[string]string{"data": strings.Repeat("x", 1<<10)}
	var ours, bare float64
	for b.Loop() {
		ours += agentThroughput(b, payload)
		bare += bareThroughput(b, payload)
	}
	b.ReportMetric(ours/float64(b.N), "msg/s-agents")
	b.ReportMetric(bare/float64(b.N), "msg/s-bare")
	b.ReportMetric(bare/ours, "x/bare-time")
}

// pump sends until the time is over and gives what arrived in a second. A send
// that is refused waits for room.
func pump(b *testing.B, send func() bool, arrived *atomic.Int64) float64 {
	room := time.NewTicker(100 * time.Microsecond)
	defer room.Stop()
	start, before := time.Now(), arrived.Load()
	for time.Since(start) < throughputTime {
		if !send() {
			<-room.C
		}
	}
	took, got := time.Since(start), arrived.Load()-before
	if got == 0 {
		b.Fatal("nothing arrived")
	}
	return float64(got) / took.Seconds()
}

func agentThroughput(b *testing.B, payload any) float64 {
	m, arrived := newTestMesh(b), atomic.Int64{}
	for _, id := range []string{"a", "b"} {
		m.add(id, func(o *AgentOptions) {
			o.OnMessage = func(string, wire.Message, time.Time) { arrived.Add(1) }
		})
	}
	m.connectAll()
	rate := pump(b, func() bool { _, err := m.agents[0].Send("b", payload); return err == nil }, &arrived)
	for _, a := range m.agents {
		_ = a.Close()
	}
	return rate
}

func bareThroughput(b *testing.B, payload any) float64 {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	var arrived atomic.Int64
	channel, end := barePair(b, func(data []byte) {
		if wire.Verify(data) != nil {
			return
		}
		if _, err := wire.DecodeMessage(data); err == nil {
			arrived.Add(1)
		}
	})
	defer end()
	return pump(b, func() bool {
		if channel.BufferedAmount() > maxBuffered {
			return false
		}
		message, err := wire.NewMessage("a", "b", messageLevel, payload)
		if err == nil {
			err = message.Sign(key)
		}
		data, encodeErr := message.Encode()
		if err != nil || encodeErr != nil {
			b.Fatal(err, encodeErr)
		}
		return channel.SendText(string(data)) == nil
	}, &arrived)
}

// barePair connects two PeerConnections with the settings of agents and
// nothing of agents around them.
func barePair(b *testing.B, receive func([]byte)) (*webrtc.DataChannel, func()) {
	var s webrtc.SettingEngine
	s.LoggerFactory = silence{}
	s.SetIncludeLoopbackCandidate(true)
	s.SetSCTPRTOMax(LabTiming().RTOMax)
	api := webrtc.NewAPI(webrtc.WithSettingEngine(s))
	ends := make([]*webrtc.PeerConnection, 2)
	for i := range ends {
		var err error
		if ends[i], err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
			b.Fatal(err)
		}
	}
	ordered, retransmits, open := true, uint16(3), make(chan struct{})
	ends[1].OnDataChannel(func(dc *webrtc.DataChannel) {
		dc.OnMessage(func(m webrtc.DataChannelMessage) { receive(m.Data) })
	})
	dc, err := ends[0].CreateDataChannel(channelLabel, &webrtc.DataChannelInit{Ordered: &ordered, MaxRetransmits: &retransmits})
	if err != nil {
		b.Fatal(err)
	}
	dc.OnOpen(func() { close(open) })
	describe(b, ends[0], ends[1])
	select {
	case <-open:
	case <-time.After(30 * time.Second):
		b.Fatal("the bare connection does not open")
	}
	return dc, func() {
		for _, pc := range ends {
			_ = pc.GracefulClose()
		}
	}
}

// describe exchanges offer and answer with all candidates in them.
func describe(b *testing.B, from, to *webrtc.PeerConnection) {
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	offer, err := from.CreateOffer(nil)
	must(err)
	gathered := webrtc.GatheringCompletePromise(from)
	must(from.SetLocalDescription(offer))
	<-gathered
	must(to.SetRemoteDescription(*from.LocalDescription()))
	answer, err := to.CreateAnswer(nil)
	must(err)
	gathered = webrtc.GatheringCompletePromise(to)
	must(to.SetLocalDescription(answer))
	<-gathered
	must(from.SetRemoteDescription(*to.LocalDescription()))
}
