package wire

// StateNone is the state of a PathReport of an agent without a link to the peer.
const StateNone = "none"

// PathReport is how one end of a link sees its ways to the peer: what it and
// the peer offered, and what became of each combination. It answers "why this
// path and no better one".
type PathReport struct {
	Local     string `json:"local"`
	Peer      string `json:"peer"`
	State     string `json:"state"`
	Path      string `json:"path,omitempty"`
	RelayOnly bool   `json:"relay_only"` // this end offers relay addresses only
	// Down is why nothing passes, as this end found out, and DownMillis for how
	// long; "" when the link works or never did.
	Down       string          `json:"down,omitempty"`
	DownMillis float64         `json:"down_ms,omitempty"`
	Own        []PathCandidate `json:"local_candidates"`
	Theirs     []PathCandidate `json:"remote_candidates"`
	Pairs      []PathPair      `json:"pairs"`
}

// PathCandidate is one address (W3C webrtc-stats, RTCIceCandidateStats).
type PathCandidate struct {
	Type     string `json:"type"` // host, srflx, prflx or relay
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
}

// PathPair is one combination (RTCIceCandidatePairStats).
type PathPair struct {
	Local             PathCandidate `json:"local"`
	Remote            PathCandidate `json:"remote"`
	State             string        `json:"state"` // waiting, in-progress, failed or succeeded
	Nominated         bool          `json:"nominated"`
	RequestsSent      uint64        `json:"requests_sent"`
	ResponsesReceived uint64        `json:"responses_received"`
	RTTMillis         float64       `json:"rtt_ms"`
}

// Direct tells whether neither end of the pair is a relay.
func (p PathPair) Direct() bool { return p.Local.Type != PathRelay && p.Remote.Type != PathRelay }
