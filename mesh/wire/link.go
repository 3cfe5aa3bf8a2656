package wire

import "time"

// The states of a connection, as WebRTC names them.
const (
	StateNew          = "new"
	StateConnecting   = "connecting"
	StateConnected    = "connected"
	StateDisconnected = "disconnected"
	StateFailed       = "failed"
	StateClosed       = "closed"
)

// KnownState tells whether s is one of the six states.
func KnownState(s string) bool {
	switch s {
	case StateNew, StateConnecting, StateConnected, StateDisconnected, StateFailed, StateClosed:
		return true
	}
	return false
}

// The kinds of path a connection takes, named after its local candidate.
const (
	PathHost  = "host"
	PathSrflx = "srflx"
	PathPrflx = "prflx"
	PathRelay = "relay"
)

// Link is one connection between two agents, as /stats of the controller
// reports it. Only State is sure to be there: a nil pointer or empty string
// means that the controller did not say, which is never the same as zero.
type Link struct {
	ID                string     `json:"id,omitempty"`
	Local             string     `json:"local,omitempty"` // agent id
	Peer              string     `json:"peer,omitempty"`  // agent id
	State             string     `json:"state"`
	Path              string     `json:"path,omitempty"`
	TURNServer        *string    `json:"turn_server,omitempty"` // "" = known to use none
	RTTMillis         *float64   `json:"rtt_ms,omitempty"`
	RTTAgeMillis      *float64   `json:"rtt_age_ms,omitempty"` // how old rtt_ms is
	JitterMillis      *float64   `json:"jitter_ms,omitempty"`
	LossTx            *float64   `json:"loss_tx,omitempty"` // 0..1
	LossRx            *float64   `json:"loss_rx,omitempty"` // 0..1
	RequestsSent      *uint64    `json:"requests_sent,omitempty"`
	ResponsesReceived *uint64    `json:"responses_received,omitempty"`
	BytesSent         *uint64    `json:"bytes_sent,omitempty"`
	BytesReceived     *uint64    `json:"bytes_received,omitempty"`
	BufferedAmount    *uint64    `json:"buffered_amount,omitempty"` // bytes
	CreatedAt         *time.Time `json:"created_at,omitempty"`
	LastRxAt          *time.Time `json:"last_rx_at,omitempty"`
	KeyEpoch          *int64     `json:"key_epoch,omitempty"`
	LocalFingerprint  string     `json:"local_fingerprint,omitempty"`
	RemoteFingerprint string     `json:"remote_fingerprint,omitempty"`
}

// Relay gives the TURN server the link uses: "" and true for a direct path.
// known is false when the controller did not say, or contradicts itself.
func (l Link) Relay() (server string, known bool) {
	switch {
	case l.TURNServer != nil:
		return *l.TURNServer, *l.TURNServer != "" || l.Path != PathRelay
	case l.Path == PathHost || l.Path == PathSrflx || l.Path == PathPrflx:
		return "", true
	}
	return "", false
}

// Own tells whether one end is an agent of meshctl.
func (l Link) Own() bool { return OwnAgent(l.Local) || OwnAgent(l.Peer) }
