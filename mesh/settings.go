package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// minWindow is the least that SCTP may have under way, in bytes. Without it, a
// loss or a late packet leaves one packet a round trip, which on a slow path is
// less than agents say: they fall behind by seconds, then for good. It is about
// what TCP begins with (RFC 6928); SetBandwidth is for paths that cannot carry it.
const minWindow = 16 << 10

// newAPI configures pion for a mesh of data channels, and of audio if wanted. A
// relay is used when there is no better path after wait.
func newAPI(o AgentOptions, wait time.Duration) (*webrtc.API, error) {
	var s webrtc.SettingEngine
	t := o.Timing
	s.LoggerFactory = silence{}
	if o.Net != nil {
		s.SetNet(o.Net)
	}
	s.SetICETimeouts(t.Disconnected, t.Failed, t.Keepalive)
	s.SetSCTPRTOMax(t.RTOMax)
	s.SetSCTPMinCwnd(minWindow)
	s.DetachDataChannels() // see firstBuffer
	s.SetSCTPMaxMessageSize(wire.MaxMessage)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	// Waiting gives better candidate types a chance. Relay-only has nothing
	// better to wait for: pion's own wait of 2 s would be paid by every link.
	if o.RelayOnly {
		wait = 0
	}
	wait = min(wait, (t.Disconnected+t.Failed)/2) // ICE gives up after the sum
	s.SetRelayAcceptanceMinWait(wait)
	s.SetPrflxAcceptanceMinWait(min(wait/2, time.Second))
	s.SetSrflxAcceptanceMinWait(min(wait/4, 500*time.Millisecond))
	if o.Loopback {
		s.SetIncludeLoopbackCandidate(true)
		s.SetIPFilter(net.IPv4(127, 0, 0, 1).Equal)
		s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	}
	engine, registry, err := mediaEngine(o)
	if err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(s), webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry)), nil
}

// newCertificate makes the DTLS identity that all links of an agent share, and
// its fingerprint.
func newCertificate() (webrtc.Certificate, string, error) {
	none := webrtc.Certificate{}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, "", fmt.Errorf("generate DTLS key: %w", err)
	}
	certificate, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return none, "", fmt.Errorf("generate DTLS certificate: %w", err)
	}
	prints, err := certificate.GetFingerprints()
	if err != nil {
		return none, "", fmt.Errorf("fingerprint DTLS certificate: %w", err)
	}
	return *certificate, prints[0].Value, nil
}

// configuration uses at most one TURN server, so that it is always known which
// one a link depends on. pion takes relay-only at construction alone, but
// forgets nothing if it is said again with every change.
func (a *Agent) configuration(server string) webrtc.Configuration {
	c := webrtc.Configuration{Certificates: []webrtc.Certificate{a.certificate}}
	if a.o.RelayOnly {
		c.ICETransportPolicy = webrtc.ICETransportPolicyRelay
	}
	for _, stun := range a.pool.stunServers() {
		c.ICEServers = append(c.ICEServers, webrtc.ICEServer{URLs: []string{stunURL(stun)}})
	}
	if server != "" {
		username, password := a.pool.credentials()
		c.ICEServers = append(c.ICEServers, webrtc.ICEServer{
			URLs: []string{server}, Username: username, Credential: password.Reveal(),
		})
	}
	return c
}

// stunURL leaves the transport out: RFC 7064 has none and pion refuses it.
func stunURL(u wire.ServerURI) string { return u.Scheme + ":" + u.Address() }

// silence drops pion's log: what matters of it comes out as events.
type silence struct{}

func (silence) NewLogger(string) logging.LeveledLogger { return silence{} }
func (silence) Trace(string)                           {}
func (silence) Tracef(string, ...any)                  {}
func (silence) Debug(string)                           {}
func (silence) Debugf(string, ...any)                  {}
func (silence) Info(string)                            {}
func (silence) Infof(string, ...any)                   {}
func (silence) Warn(string)                            {}
func (silence) Warnf(string, ...any)                   {}
func (silence) Error(string)                           {}
func (silence) Errorf(string, ...any)                  {}
