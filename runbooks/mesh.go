package runbooks

import (
	"crypto/x509"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/metrics"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Mesh is what runbooks may ask and change: plain values and clients, made at
// the edge from the configuration.
type Mesh struct {
	Name       string
	Controller *control.Client
	// SignalingStats counts registered agents; nil asks the controller.
	SignalingStats *control.Client
	SignalingURLs  []string
	Sites          Sites
	Witness        *witnessclient.Client
	Metrics        *metrics.Client // Prometheus; nil = none
	EnvFile        string
	TURN           probes.Credentials
	MintTURN       mesh.CredentialSource // makes TURN's successors; nil: they do not expire
	RelayOnly      bool
	Standby        bool             // long-lived agents hold a second path for relayed links
	STUNSpare      []wire.ServerURI // for agents, when no STUN server of the mesh answers
	Loopback       bool
	CAFile         string
	Agent          mesh.Timing
	Thresholds     Thresholds
	Timings        Timings
}

// turnProbe asks one TURN server of the mesh as its agents would.
func (m *Mesh) turnProbe(server wire.ServerURI) probes.TURN {
	return probes.TURN{Target: server, Credentials: m.TURN, Roots: m.Sites.Roots, Limits: m.Thresholds.Limits}
}

// Sites are the parts of the mesh by their own addresses, for those who ask
// each of them.
type Sites struct {
	Signaling                       []SignalingSite
	Balancer                        string // URL in front of the signaling servers; "" = none
	Controller, Witness, Prometheus probes.Service
	Upstream                        Upstream
	EnvHost                         string           // where the env file is; "" = here
	TLS                             []wire.ServerURI // everything that serves a certificate
	Roots                           *x509.CertPool   // nil = the system's
}

// SignalingSite is one signaling server.
type SignalingSite struct{ Name, URL string }

// Upstream is where nginx has the list of signaling servers. Without a file
// there is none.
type Upstream struct{ File, Name, Host string }

// Thresholds are the limits that turn numbers into verdicts. Rates and shares
// are percentages, latencies milliseconds.
type Thresholds struct {
	probes.Limits
	SuccessRateWarn, SuccessRateFail         float64
	FailedConnections                        int
	ErrorsPerWindow                          int
	RTTDirectWarn, RTTDirectFail             float64
	RTTRelayWarn, RTTRelayFail               float64
	MessageLossWarn, MessageLossFail         float64
	DeliveryLatencyWarn, DeliveryLatencyFail float64
	JitterWarn, JitterFail                   float64
	RelayShareWarn, RelayShareFail           float64 // of connected links, unless the mesh is relay-only
}

// DefaultThresholds are the documented defaults (docs/design.md).
func DefaultThresholds() Thresholds {
	return Thresholds{
		Limits: probes.DefaultLimits(), JitterWarn: 30, JitterFail: 100, RelayShareWarn: 20, RelayShareFail: 50,
		SuccessRateWarn: 95, SuccessRateFail: 80,
		FailedConnections: 10, ErrorsPerWindow: 10,
		RTTDirectWarn: 300, RTTDirectFail: 500,
		RTTRelayWarn: 500, RTTRelayFail: 2000,
		MessageLossWarn: 0.1, MessageLossFail: 0.5,
		DeliveryLatencyWarn: 100, DeliveryLatencyFail: 200,
	}
}

// successRate is the verdict on a share of connected links.
func (t Thresholds) successRate(percent float64) probes.Verdict {
	switch {
	case percent < t.SuccessRateFail:
		return probes.Fail
	case percent < t.SuccessRateWarn:
		return probes.Warn
	}
	return probes.Pass
}

// Timings are the windows of monitoring and validation. Scale shrinks all of
// them for rehearsals; reports say so.
type Timings struct {
	Scale        float64
	Monitor      time.Duration // watch after a recovery
	Short        time.Duration // when the short-term phase begins, after the recovery
	ErrorWindow  time.Duration // one of the three windows of the error trend
	Delivery     time.Duration // how long the delivery test sends
	StatsMaxAge  time.Duration // an older measured value is stale
	StepDeadline time.Duration // until a change must be seen to have taken effect
}

// DefaultTimings are the windows the procedures were written with.
func DefaultTimings() Timings {
	return Timings{
		Scale: 1, Monitor: 5 * time.Minute, Short: time.Minute, ErrorWindow: 5 * time.Minute,
		Delivery: 30 * time.Second, StatsMaxAge: 6 * time.Second, StepDeadline: 30 * time.Second,
	}
}

// Scaled is a window shrunk by the scale, which 0 leaves alone.
func (t Timings) Scaled(d time.Duration) time.Duration {
	if t.Scale <= 0 {
		return d
	}
	return time.Duration(float64(d) * t.Scale)
}
