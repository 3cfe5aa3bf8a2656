package sentinel

import (
	"testing"

	"github.com/infrafabric/meshctl/witnessclient"
)

// One event may tell of many forged messages; the counter counts messages.
func TestEventThatTellsOfMany(t *testing.T) {
	c := newCounts()
	for _, m := range []map[string]any{nil, {"count": 40}, {"count": "x"}, {"count": -3}} {
		c.event(witnessclient.Event{Name: "signature_verification_failed", Metadata: m})
	}
	if n := c.snapshot().events["signature_verification_failed"]; n != 43 {
		t.Errorf("counted %d, want 43", n)
	}
}
