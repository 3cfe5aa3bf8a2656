package mesh

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
)

// TestLinksMoveToNewCredentials: before the old ones expire, and without a
// message lost.
func TestLinksMoveToNewCredentials(t *testing.T) {
	relay := newRelay(t, true)
	m, g := newTestMesh(t), newLedger()
	var asked atomic.Int64
	m.addRelayed(2, uris(relay), func(o *AgentOptions) {
		withLedger(g)(o)
		o.Username, o.Password = "", secret.Secret{}
		o.Credentials = func(context.Context) (string, secret.Secret, time.Time, error) {
			name := turnUser
			if asked.Add(1) > 2 {
				name = turnUser + "-renewed" // the server takes any name
			}
			return name, secret.New(turnPassword), time.Now().Add(3 * time.Second), nil
		}
	})
	m.onServer(relay.uri)
	g.start(t, m.agents, 10*time.Millisecond)
	g.flowing(m)
	before := creations(m)
	m.eventually("new connections", func() error {
		for i, peer := range []string{"a2", "a1"} {
			l, name := m.agents[i].existing(peer), make(chan string, 1)
			l.inbox.post(func() { name <- l.conn.username })
			if got := <-name; got == turnUser {
				return fmt.Errorf("%s has the old credentials", m.agents[i].ID())
			}
		}
		if creations(m) == before {
			return errors.New("the old ones")
		}
		return nil
	})
	g.settle(m)
}
