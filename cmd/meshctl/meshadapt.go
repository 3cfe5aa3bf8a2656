package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/runbooks"
)

type meshAdaptOptions struct {
	changeOptions
	mbps  float64
	fixed bool
	off   bool
}

func newMeshAdaptCmd(a *app) *cobra.Command {
	var o meshAdaptOptions
	cmd := &cobra.Command{
		Use: "adapt --max-mbps NUMBER | --off", Short: "Bound what agents send, and let them follow the loss of each path",
		Long: `adapt tells the controller how much every agent may send to each peer. Unless
--fixed is given, agents also lower their rate where the path loses more than 10 %
of what they send, and raise it again below 2 %. A message over the bound is
refused to its sender, or waits if it is a reliable one.

Data channels have no forward error correction; what is lost is sent again.

Exit status: 0 set or nothing to do, 4 taken but the controller does not show it,
5 refused and nothing changed, 6 failed and undone, 7 failed and NOT undone, 8
locked, 9 done but the audit events are not delivered yet.`,
		Example: `  meshctl mesh adapt --max-mbps 1 --reason "INC-42: uplink full"
  meshctl mesh adapt --off`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runMeshAdapt(cmd, o) },
	}
	flags := cmd.Flags()
	flags.Float64Var(&o.mbps, "max-mbps", 0, "at most `NUMBER` Mbit/s from an agent to each peer")
	flags.BoolVar(&o.fixed, "fixed", false, "hold that bound whatever the path loses")
	flags.BoolVar(&o.off, "off", false, "free the agents again")
	o.register(cmd, a)
	return cmd
}

func (a *app) runMeshAdapt(cmd *cobra.Command, o meshAdaptOptions) error {
	switch {
	case o.off && (o.mbps != 0 || o.fixed):
		return usageError("--off frees the agents: it goes with no bound")
	case !o.off && !(o.mbps >= 0.064 && o.mbps <= 10_000):
		return usageError("mesh adapt: --max-mbps between 0.064 and 10000, or --off, is needed")
	}
	return a.change(cmd, o.changeOptions, func(m *runbooks.Mesh, _ time.Duration) (*runbooks.Recovery, error) {
		return runbooks.NewMeshAdapt(m, runbooks.MeshAdaptParams{Bandwidth: control.Bandwidth{Adapt: !o.off && !o.fixed, Mbps: o.mbps}})
	})
}
