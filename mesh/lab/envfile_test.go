package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEnvFile(t *testing.T) {
	l := startLab(t, Options{NoAgents: true})
	if l.EnvFile != filepath.Join(l.Dir, "webrtc-production.env") {
		t.Errorf("file %s", l.EnvFile)
	}
	info, err := os.Stat(l.EnvFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, error %v", info.Mode(), err)
	}
	content, err := os.ReadFile(l.EnvFile)
	if err != nil {
		t.Fatal(err)
	}
	var decoy bool
	for line := range strings.Lines(string(content)) {
		decoy = decoy || strings.HasPrefix(line, "#") && strings.Contains(line, l.TURN[0].URI.Address())
	}
	if !decoy {
		t.Errorf("no comment names turn-1:\n%s", content)
	}
}

// A shell must read the file, and find these values.
func TestEnvFileInAShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	l := startLab(t, Options{NoAgents: true})
	signaling := strings.Split(strings.TrimPrefix(l.SignalingURL, "ws://"), ":")
	want := map[string]string{
		"TURN_SERVERS":         l.TURN[0].URI.String() + "," + l.TURN[1].URI.String(),
		"STUN_SERVERS":         "stun:" + l.TURN[0].URI.Address() + ",stun:" + l.TURN[1].URI.Address(),
		"TURN_USERNAME":        l.Username,
		"TURN_PASSWORD":        l.Password.Reveal(),
		"ICE_TRANSPORT_POLICY": "relay",
		"SIGNALING_HOST":       signaling[0],
		"SIGNALING_PORT":       signaling[1],
		"IF_WITNESS_ENDPOINT":  l.WitnessURL,
		"IF_WITNESS_API_KEY":   l.WitnessKey.Reveal(),
	}
	got := map[string]string{}
	for name := range want {
		out, err := exec.CommandContext(t.Context(), sh, "-c", `. "$1" && eval "printf %s \"\$$2\""`, "sh", l.EnvFile, name).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		got[name] = string(out)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
