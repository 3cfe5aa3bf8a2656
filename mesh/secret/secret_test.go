package secret_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/infrafabric/meshctl/mesh/secret"
)

func TestSecretIsNeverShown(t *testing.T) {
	const canary = "canary-7f3a"
	s := secret.New(canary)
	holder := struct {
		Public  secret.Secret
		private secret.Secret
	}{s, s}
	encoded, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	shown := string(encoded)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, holder) + fmt.Sprintf(verb, &holder)
	}
	if strings.Contains(shown, canary) || strings.Contains(shown, fmt.Sprintf("%x", canary)) {
		t.Errorf("secret shown: %s", shown)
	}
	if got := s.Reveal(); got != canary {
		t.Errorf("Reveal() = %q, want the value", got)
	}
}

func TestEmptySecret(t *testing.T) {
	if s := secret.New(""); !s.Empty() || s.Reveal() != "" {
		t.Errorf("New(\"\") = %v, Empty() = %v, want an empty secret", s, s.Empty())
	}
}
