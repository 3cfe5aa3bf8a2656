package lab

import (
	"context"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// The credentials are random, so a check can only be made when the lab has them.
func TestAgentsCheckTURNServers(t *testing.T) {
	var username string
	var password secret.Secret
	checked := make(chan string, 100)
	l := startLab(t, Options{Agents: 1, Check: func(u string, p secret.Secret) mesh.TURNCheck {
		username, password = u, p
		return func(_ context.Context, server wire.ServerURI) (time.Duration, error) {
			select {
			case checked <- server.String():
			default:
			}
			return time.Millisecond, nil
		}
	}})
	if username != l.Username || password.Reveal() != l.Password.Reveal() {
		t.Errorf("checks as %q, and not with the lab's credentials", username)
	}
	missing := map[string]bool{l.TURN[0].URI.String(): true, l.TURN[1].URI.String(): true}
	timeout := time.After(patience)
	for len(missing) > 0 {
		select {
		case server := <-checked:
			delete(missing, server)
		case <-timeout:
			t.Fatalf("never checked: %v", missing)
		}
	}
}
