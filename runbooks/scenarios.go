package runbooks

import "time"

// Scenario is one way in which a mesh fails, with the time in which it should
// be well again. A nil objective is none: nobody promises a time.
type Scenario struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Component    string         `json:"component"`
	Scope        string         `json:"scope"`
	Automatic    *time.Duration `json:"-"` // without anybody's help
	Manual       *time.Duration `json:"-"` // by hand
	Note         string         `json:"note"`
	Intervention string         `json:"intervention"`
	Find         []string       `json:"find"`   // commands that show it
	Repair       []string       `json:"repair"` // commands that recover from it
}

// Scenarios lists all scenarios, in the order of their letters.
func Scenarios() []Scenario {
	within := func(d time.Duration) *time.Duration { return &d }
	return []Scenario{
		{
			ID: "A", Name: "TURN server failure", Component: "relay servers", Scope: "per peer",
			Automatic: within(30 * time.Second), Manual: within(5 * time.Minute), Note: "automatic in 5 to 30 s", Intervention: "often unnecessary",
			Find: []string{"status", "turn list", "probe turn"}, Repair: []string{"turn recover --failed HOST[:PORT] --replacement URI", "turn restore"},
		},
		{
			ID: "B", Name: "signaling server failure", Component: "SDP and ICE relay", Scope: "global",
			Automatic: within(2 * time.Minute), Manual: within(5 * time.Minute), Note: "automatic in 30 s to 2 min", Intervention: "may be required",
			Find: []string{"status", "signaling list", "probe signaling"}, Repair: []string{"signaling recover --server NAME --action restart|promote-backup", "signaling demote"},
		},
		{
			ID: "C", Name: "network partition", Component: "mesh connectivity", Scope: "regional",
			Automatic: within(1035 * time.Second), Note: "automatic after detection, with growing waits; nobody promises a time by hand", Intervention: "needed when that gives up",
			Find: []string{"status", "mesh peers", "mesh test"}, Repair: []string{"mesh heal"},
		},
		{
			ID: "D", Name: "certificate expiration", Component: "DTLS and TLS", Scope: "global on restart",
			Manual: within(time.Hour), Note: "nothing renews by itself", Intervention: "required, or automated renewal",
			Find: []string{"status", "cert check", "probe tls"}, Repair: []string{"cert rotate"},
		},
		{
			ID: "E", Name: "key compromise", Component: "encryption keys", Scope: "all peers",
			Manual: within(time.Minute), Note: "nothing happens by itself", Intervention: "incident response by hand",
			Find: []string{"keys status", "diagnose security"}, Repair: []string{"keys rotate --incident ID --reason TEXT"},
		},
	}
}

// Rehearsed tells whether this version has a recovery for the scenario, and so
// its validation and its drill.
func (s Scenario) Rehearsed() bool {
	for _, rb := range All() {
		if rb.Scenario == s.ID {
			return true
		}
	}
	return false
}
