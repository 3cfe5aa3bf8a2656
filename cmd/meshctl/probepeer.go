package main

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/probes"
)

func newProbePeerCmd(a *app) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use: "peer", Short: "Answer probes of relays that run on another host, until interrupted",
		Long: `peer is the far end of "meshctl probe turn --peer HOST:PORT". It answers each request
with one packet of the same size, some from a second port: that shows whether a relay
takes packets that were not asked for. It sends nothing to anybody who did not ask.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runProbePeer(cmd.Context(), listen) },
	}
	cmd.Flags().StringVar(&listen, "listen", "0.0.0.0:3490", "UDP `ADDRESS:PORT` to listen on; port 0 takes a free one")
	return cmd
}

func (a *app) runProbePeer(ctx context.Context, listen string) error {
	local, err := netip.ParseAddrPort(listen)
	if err != nil {
		return usageError("--listen %s: not ADDRESS:PORT", listen)
	}
	peer, err := probes.ListenPeer(local)
	if err != nil {
		return &exitError{code: exitRefused, err: err, hints: []string{"another process has the port, or the address is not this host's"}}
	}
	ready := map[string]any{"address": peer.Addr().String()}
	if err := a.show(ready, func(p *page) { p.line("answering on %s; ^C ends it", peer.Addr()) }); err != nil {
		return err
	}
	err = peer.Serve(ctx)
	counts := peer.Counts()
	p := a.page(a.err)
	p.line("answered %d requests, refused %d", counts.Requests, counts.Refused)
	if !a.quiet {
		_ = p.flush()
	}
	return err
}
