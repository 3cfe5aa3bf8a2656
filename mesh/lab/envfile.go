package lab

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// writeEnvFile writes the mesh's configuration as a server has it, with all
// that a careless edit would destroy: comments that name a server, quotes and
// trailing comments.
func (l *Lab) writeEnvFile() error {
	host, port, _ := strings.Cut(strings.TrimPrefix(l.SignalingHTTPURL, "http://"), ":")
	var turn, stun []string
	for _, s := range l.TURN {
		if s.InRotation {
			turn = append(turn, s.URI.String())
			stun = append(stun, wire.ServerURI{Scheme: "stun", Host: s.URI.Host, Port: s.URI.Port}.String())
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# WebRTC mesh, production configuration. One KEY=value per line.

# Signaling
SIGNALING_HOST=%s
SIGNALING_PORT=%s

# Relays. %s (turn-1) replaced the old relay on 2025-10-02; keep this note.
`, host, port, l.TURN[0].URI.Address())
	fmt.Fprintf(&b, "STUN_SERVERS=\"%s\"\n", strings.Join(stun, ","))
	fmt.Fprintf(&b, "TURN_SERVERS=\"%s\"   # first one is preferred\n", strings.Join(turn, ","))
	b.WriteString(credentialLines(l.Username, l.Password))
	policy := "relay # no direct paths"
	if l.options.Direct {
		policy = "all"
	}
	fmt.Fprintf(&b, "TURN_FALLBACK_TIMEOUT_MS=5000\n\nPRODUCTION_MODE=true\nICE_TRANSPORT_POLICY=%s\n", policy)
	b.WriteString(`ALLOW_SELF_SIGNED_CERTS=false
ENABLE_CERT_VALIDATION=true
ENABLE_SRTP_KEY_ROTATION=true
SRTP_KEY_ROTATION_INTERVAL_MS=86400000

# Audit
`)
	fmt.Fprintf(&b, "IF_WITNESS_ENDPOINT=%s\nIF_WITNESS_API_KEY='%s'\n", l.WitnessURL, l.WitnessKey.Reveal())
	b.WriteString("#ALERT_EMAIL=oncall@example.com\n#PAGERDUTY_INTEGRATION_KEY=\n")
	return os.WriteFile(l.EnvFile, []byte(b.String()), 0o600)
}

func credentialLines(username string, password secret.Secret) string {
	return fmt.Sprintf("TURN_USERNAME=%s\nTURN_PASSWORD='%s'\n", username, password.Reveal())
}

// expireCredentials writes credentials into the env file as a TURN REST
// service made them, two hours ago for one hour.
func (l *Lab) expireCredentials() error {
	ended := time.Now().Add(-time.Hour).Unix()
	return l.replaceCredentials(credentialLines(fmt.Sprintf("%d:%s", ended, l.Username), newKey()))
}

func (l *Lab) renewCredentials() error {
	return l.replaceCredentials(credentialLines(l.Username, l.Password))
}

// replaceCredentials leaves the other lines as they are: somebody may have
// edited them.
func (l *Lab) replaceCredentials(lines string) error {
	old, err := os.ReadFile(l.EnvFile)
	if err != nil {
		return err
	}
	var b strings.Builder
	for line := range strings.Lines(string(old)) {
		switch {
		case strings.HasPrefix(line, "TURN_USERNAME="):
			b.WriteString(lines)
		case !strings.HasPrefix(line, "TURN_PASSWORD="):
			b.WriteString(line)
		}
	}
	return os.WriteFile(l.EnvFile, []byte(b.String()), 0o600)
}
