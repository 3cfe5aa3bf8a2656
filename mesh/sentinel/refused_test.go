package sentinel

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/lab"
)

// A sentinel that signaling refuses after it had joined ends too: nothing would
// ever make it see again, and what runs for ever looks well.
func TestRefusedLaterEnds(t *testing.T) {
	l := startLab(t, 1)
	o := options(t, l)
	var err error
	if o.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, url: "http://" + o.Listener.Addr().String()}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()
	defer http.DefaultClient.CloseIdleConnections()
	eventually(t, "it sees", func() error { return w.healthy(http.StatusOK, "ok", "") })
	for _, fault := range []string{"signaling-401", "signaling-down"} {
		if err := l.Inject(t.Context(), lab.Fault{Name: fault}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Heal(t.Context(), lab.Fault{Name: "signaling-down"}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		var refused *mesh.SignalingError
		if !errors.As(err, &refused) || !refused.Refused {
			t.Errorf("ended with %v, want the refusal", err)
		}
	case <-time.After(60 * time.Second):
		t.Error("it goes on")
		cancel()
		<-ended
	}
}
