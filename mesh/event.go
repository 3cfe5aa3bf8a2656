package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

type metadata = map[string]any

// emitter reports one event; peer is "" when the event concerns no link.
type emitter func(name, peer string, m metadata)

// emit stamps an event and hands it to whoever started the agent.
func (a *Agent) emit(name, peer string, m metadata) {
	a.emitEvent(witnessclient.Event{Name: name, PeerID: peer, Metadata: m})
}

func (a *Agent) emitEvent(e witnessclient.Event) {
	if a.o.Emit == nil {
		return
	}
	e.Timestamp, e.AgentID = time.Now().UTC(), a.o.ID
	if e.Name == "all_turn_servers_unhealthy" {
		e.Severity = "critical"
	}
	a.o.Emit(e)
}

// emitSDP reports an offer or answer without its content, which holds the ICE
// password.
func (a *Agent) emitSDP(name, peer, sdp string) {
	sum := sha256.Sum256([]byte(sdp))
	a.emitEvent(witnessclient.Event{Name: name, PeerID: peer, SDPHash: hex.EncodeToString(sum[:])})
}

func eventCandidate(peer, candidate string) witnessclient.Event {
	return witnessclient.Event{Name: "ice_candidate_sent", PeerID: peer, ICECandidate: candidate}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
