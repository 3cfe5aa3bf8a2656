package probes

import (
	"context"
	"sync"

	"github.com/infrafabric/meshctl/mesh/wire"
)

// Matrix asks one server over several transports side by side. What one of
// them shows can name what is wrong with another: UDP that is blocked on the
// way, or TLS that is not served.
type Matrix struct {
	TURN
	Targets []wire.ServerURI // of one server, as Over makes them; Server is not used
}

// Run returns one report for each target, in their order.
func (m Matrix) Run(ctx context.Context) []Report {
	reports := make([]Report, len(m.Targets))
	var asked sync.WaitGroup
	for i, target := range m.Targets {
		asked.Go(func() {
			p := m.TURN
			p.Target = target
			reports[i] = p.Run(ctx)
		})
	}
	asked.Wait()
	return reports
}
