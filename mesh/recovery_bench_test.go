package mesh

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// benchMesh is three relay-only agents on the first of two servers, sending
// each other a reliable message every 20 ms.
type benchMesh struct {
	*testMesh
	*ledger
	first, second *relayServer
}

func newBenchMesh(b *testing.B, edit func(*AgentOptions)) benchMesh {
	m := benchMesh{newTestMesh(b), newLedger(), newRelay(b, true), newRelay(b, true)}
	m.addRelayed(3, uris(m.first, m.second), func(o *AgentOptions) {
		withLedger(m.ledger)(o)
		if edit != nil {
			edit(o)
		}
	})
	m.onServer(m.first.uri)
	m.start(b, m.agents, 20*time.Millisecond)
	m.flowing(m.testMesh)
	return m
}

// end gives the longest silence of every direction since a time, and how many
// messages did not arrive.
func (m benchMesh) end(since time.Time) (gaps []time.Duration, lost int) {
	m.flowing(m.testMesh)
	m.settle(m.testMesh) // fails when one is lost
	m.mu.Lock()
	for d, times := range m.at {
		var longest time.Duration
		for i := 1; i < len(times); i++ {
			if times[i].After(since) {
				longest = max(longest, times[i].Sub(times[i-1]))
			}
		}
		gaps = append(gaps, longest)
		lost += m.sent[d] - len(m.arrived[d])
	}
	m.mu.Unlock()
	for _, a := range m.agents {
		_ = a.Close()
	}
	m.first.kill()
	m.second.kill()
	return gaps, lost
}

// measure runs one disturbance per iteration and reports what messages felt.
func measure(b *testing.B, edit func(*AgentOptions), disturb func(benchMesh)) {
	var all []time.Duration
	lost := 0
	for b.Loop() {
		m := newBenchMesh(b, edit)
		if edit != nil {
			m.eventually("standby paths", func() error {
				for _, a := range m.agents {
					for _, peer := range a.Peers() {
						if !hasSpare(a, peer) {
							return fmt.Errorf("%s has none to %s", a.ID(), peer)
						}
					}
				}
				return nil
			})
		}
		since := time.Now()
		disturb(m)
		m.onServer(m.second.uri)
		gaps, missing := m.end(since)
		all, lost = append(all, gaps...), lost+missing
	}
	slices.Sort(all)
	b.ReportMetric(millis(percentile(all, 50)), "ms/outage")
	b.ReportMetric(millis(percentile(all, 95)), "ms/p95")
	b.ReportMetric(float64(lost), "messages/lost")
}

// BenchmarkFailoverOutage kills the TURN server of all links under traffic.
func BenchmarkFailoverOutage(b *testing.B) {
	measure(b, nil, func(m benchMesh) { m.first.kill() })
}

// BenchmarkStandbyOutage does so with a second path held ready.
func BenchmarkStandbyOutage(b *testing.B) {
	measure(b, func(o *AgentOptions) { o.Standby = true }, func(m benchMesh) { m.first.kill() })
}

// BenchmarkPlannedMove moves everybody off a server that works.
func BenchmarkPlannedMove(b *testing.B) {
	measure(b, nil, func(m benchMesh) {
		for _, a := range m.agents {
			a.MoveOff(m.first.uri)
		}
	})
}

// BenchmarkSignalingFailover kills the primary signaling server and waits for
// three agents to be registered with the backup; links are not touched.
func BenchmarkSignalingFailover(b *testing.B) {
	var all []time.Duration
	for b.Loop() {
		backup := newSignalServer(b)
		m := newTestMesh(b)
		for i := range 3 {
			m.add(fmt.Sprintf("a%d", i+1), func(o *AgentOptions) { o.SignalingURLs = append(o.SignalingURLs, backup.url()) })
		}
		m.connectAll()
		before := creations(m)
		killed := time.Now()
		m.signal.refuseNew(503)
		m.signal.drop()
		m.eventually("registered with the backup", onSignaling(m, backup.url()))
		all = append(all, time.Since(killed))
		if after := creations(m); after != before {
			b.Errorf("links were touched:\n%s\n%s", before, after)
		}
		for _, a := range m.agents {
			_ = a.Close()
		}
	}
	slices.Sort(all)
	b.ReportMetric(millis(percentile(all, 50)), "ms/registered")
}
