package lab

import (
	"fmt"
	"testing"
	"time"
)

// TestMediaThroughRelays: agents of the lab hear each other's audio.
func TestMediaThroughRelays(t *testing.T) {
	l := startLab(t, Options{Agents: 2, Media: true})
	since := time.Now()
	eventually(t, "both agents count RTP packets", func() error {
		hears := map[string]bool{}
		for _, e := range l.eventsSince(t, since) {
			if e.Name == "connection_quality_update" && e.Metadata["rtp_packets_received"] != nil {
				hears[e.AgentID] = true
			}
		}
		if len(hears) < 2 {
			return fmt.Errorf("%v", hears)
		}
		return nil
	})
}
