package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/sentinel"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/runbooks"
)

type meshAgentOptions struct {
	name, listen string
	media        bool
}

func newMeshAgentCmd(a *app) *cobra.Command {
	var o meshAgentOptions
	cmd := &cobra.Command{
		Use: "agent", Short: "Be a long-lived member of the mesh that watches it (sentinel)",
		Long: `agent joins the mesh as meshctl-sentinel-NAME, links to every other agent, and stays
until it is told to end. It serves Prometheus metrics on /metrics and its own
health on /healthz, which is 503 as long as it cannot see the mesh; it hands its
events to the witness, asks once a minute for the TURN servers that agents get,
and tells the receivers of the configuration (notify) when healing a partition
was given up, or every TURN server fails its checks. It is never counted as an agent of the mesh.

Exit status: 0 told to end, 2 usage or configuration, 5 signaling refuses
it, 8 one of this name runs on this machine already.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runMeshAgent(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.name, "name", "", "`NAME` in the mesh, after meshctl-sentinel- (default: the host's)")
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:9464", "`ADDRESS` for /metrics and /healthz")
	cmd.Flags().BoolVar(&o.media, "media", false, "also exchange an Opus track of silence with peers that take it: RTP loss in quality events")
	return cmd
}

// notInName tells whether an id should not have the letter.
func notInName(r rune) bool { return !strings.ContainsRune(nameLetters, r) }

const nameLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

func (a *app) runMeshAgent(ctx context.Context, o meshAgentOptions) error {
	if o.name == "" {
		host, err := os.Hostname()
		if err != nil {
			return usageError("the host has no name: --name is needed")
		}
		o.name, _, _ = strings.Cut(host, ".")
	}
	if len(o.name) > 64 || strings.ContainsFunc(o.name, notInName) {
		return usageError("--name %q: letters, digits, dots, dashes and underscores, at most 64", o.name)
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	defer s.close()
	options := a.sentinel(s, wire.SentinelPrefix+o.name)
	options.Agent.Media = o.media
	if options.Listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen); err != nil {
		return usageError("--listen %s: %w", o.listen, err)
	}
	options.Log.Info("serving /metrics and /healthz", "address", options.Listener.Addr().String())
	err = sentinel.Run(ctx, options)
	var refused *mesh.SignalingError
	switch cause := context.Cause(ctx); {
	case cause != nil && !errors.Is(cause, errInterrupted):
		return cause
	case errors.As(err, &refused) && refused.Refused:
		return &exitError{code: exitRefused, err: err, hints: []string{"signaling wants no such agent; trying again is no use"}}
	case errors.As(err, new(*sentinel.RunningError)):
		return &exitError{code: exitLocked, err: err, hints: []string{"give this one another --name"}}
	}
	return err
}

func (a *app) sentinel(s *session, id string) sentinel.Options {
	m := s.mesh
	o := sentinel.Options{
		Agent: mesh.AgentOptions{
			ID: id, SignalingURLs: m.SignalingURLs, Username: m.TURN.Username, Password: m.TURN.Password,
			Credentials: m.MintTURN, RelayOnly: m.RelayOnly, Loopback: m.Loopback, Timing: m.Agent, CAFile: m.CAFile,
			Check: m.CheckTURN, STUNCheck: runbooks.CheckSTUN, STUNSpare: m.STUNSpare, Standby: m.Standby,
		},
		TURNServers: m.TURNServers, Journals: filepath.Join(s.config.stateDir(), "sentinel", id),
		Stamp: a.stamp(), NewRun: runbooks.NewRunID, Witness: m.Witness, Log: slog.New(slog.DiscardHandler), Page: a.pager(s.config),
	}
	if !a.quiet {
		o.Log = slog.New(slog.NewTextHandler(a.err, nil))
	}
	return o
}
