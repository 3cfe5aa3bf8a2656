package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/probes"
)

// probeKinds are the questions that `probe` asks, in the order of `probe all`.
var probeKinds = []struct{ name, short, long string }{
	{"stun", "Ask STUN servers where they see this host", `A Binding request only: it says nothing about relaying.`},
	{"turn", "Prove that TURN servers relay, or name what is wrong", `A whole allocation, data through the relay both ways, and a packet that was not
asked for; then the allocation is given back. Credentials are those of the
configuration, or MESHCTL_TURN_USERNAME and MESHCTL_TURN_PASSWORD, which are enough
for a URI without any configuration.`},
	{"tls", "Judge certificates as they are served", `The handshake, the chain, the name and the time that is left; for turns: and stuns:
also whether a STUN server is behind it. HOST:PORT and https: or wss: URLs will do.`},
	{"signaling", "Register at signaling servers as an agent does", `Each server by its own address, under a throw-away id; and an offer that crosses to
the next server, which shows whether they share their agents.`},
	{"controller", "Read the controller's statistics", `The reply is checked whole.`},
	{"witness", "Query the audit log", `An authorised query that is answered with a list.`},
	{"prometheus", "Query the metrics server", `Which of its targets are up.`},
}

type probeOptions struct {
	transports []string
	peer       string
	count      int
	rate       float64
	every      time.Duration
	rfc        bool
	failOn     string
}

func newProbeCmd(a *app) *cobra.Command {
	cmd := group("probe", "Ask servers the real question, and name what is wrong")
	for _, kind := range probeKinds {
		cmd.AddCommand(newProbeKindCmd(a, kind.name, kind.short, kind.long))
	}
	cmd.AddCommand(newProbeKindCmd(a, "all", "Ask every server of the configuration everything", "Every probe of every server that the configuration names."))
	cmd.AddCommand(newProbePeerCmd(a))
	return cmd
}

func newProbeKindCmd(a *app, kind, short, long string) *cobra.Command {
	o := probeOptions{}
	cmd := &cobra.Command{
		Use: kind + " [TARGET...]", Short: short,
		Long: long + `

A target is a server of the configuration by its name or host, or a URI; without
one all of the configuration are asked. A name without a port is looked up by its
SRV records, and every address is asked. "meshctl explain CODE" tells what a finding
means.

Exit status: 0 healthy, 3 a probe failed, 4 could not be determined, 130 interrupted.`,
		ValidArgsFunction: a.completeProbe(kind),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.runProbe(cmd.Context(), kind, args, o) },
	}
	if kind == "all" {
		cmd.Use, cmd.Args = kind, exactArgs(0, "no arguments")
	}
	flags := cmd.Flags()
	flags.DurationVar(&o.every, "every", 0, "probe again at this `INTERVAL`, until interrupted")
	if kind == "turn" || kind == "stun" || kind == "all" {
		flags.StringSliceVar(&o.transports, "transport", nil, "ask over these `TRANSPORTS` side by side: udp, tcp, tls, dtls (default: the URI's)")
		flags.BoolVar(&o.rfc, "rfc", false, "wait as long as RFC 8489 has it, 39.5 s, before a server is silent (default 2.8 s)")
		_ = cmd.RegisterFlagCompletionFunc("transport", cobra.FixedCompletions([]string{"udp", "tcp", "tls", "dtls"}, cobra.ShellCompDirectiveNoFileComp))
	}
	if kind == "turn" || kind == "all" {
		flags.StringVar(&o.peer, "peer", "", "`HOST:PORT` of `meshctl probe peer` on another host (default probe.peer)")
		flags.IntVar(&o.count, "count", 0, "measure the relayed path with this `NUMBER` of packets, such as 100")
		flags.Float64Var(&o.rate, "rate", 50, "packets a second of --count")
	}
	failOnFlag(cmd, &o.failOn)
	offer(cmd, "jsonl", "junit", "prom")
	return cmd
}

func (o probeOptions) check(a *app) error {
	for _, t := range o.transports {
		switch probes.Transport(t) {
		case probes.UDP, probes.TCP, probes.TLS, probes.DTLS:
		default:
			return usageError("--transport %s: not udp, tcp, tls or dtls", t)
		}
	}
	once := a.output == "json" || a.output == "junit" || a.output == "prom"
	switch {
	case o.count < 0 || o.count > 100_000:
		return usageError("--count %d: not between 0 and 100000", o.count)
	case o.count > 0 && (o.rate < 1 || o.rate > 1000):
		return usageError("--rate %v: not between 1 and 1000", o.rate)
	case o.every != 0 && o.every < time.Second:
		return usageError("--every %s: less than a second", o.every)
	case o.every > 0 && once && a.outfile == "":
		return usageError("--every with --output %s needs an --outfile, which is replaced each time", a.output)
	}
	return nil
}

func (a *app) runProbe(ctx context.Context, kind string, args []string, o probeOptions) error {
	if err := o.check(a); err != nil {
		return err
	}
	plan, err := a.planProbes(ctx, kind, args, o)
	if err != nil {
		return err
	}
	defer plan.close()
	notes := a.progress()
	for shown := false; ; shown = true {
		started := time.Now()
		round := plan.run(ctx, notes)
		round.ExitCode = verdictCode(round.Verdict, o.failOn)
		if o.every > 0 {
			round.at = time.Now()
		}
		if errors.Is(context.Cause(ctx), errInterrupted) {
			if shown { // what was found out before says more than a round that was cut short
				return withCode(exitInterrupted)
			}
			round.ExitCode = exitInterrupted
		}
		if err := a.showProbes(round); err != nil {
			return err
		}
		if o.every == 0 || !wait(ctx, o.every-time.Since(started)) {
			if errors.Is(context.Cause(ctx), errInterrupted) {
				return withCode(exitInterrupted)
			}
			return withCode(round.ExitCode)
		}
	}
}

// wait is false when ctx has ended before d.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// peerAddress finds the echo peer of --peer, or of the configuration.
func peerAddress(ctx context.Context, given, configured string) (netip.AddrPort, error) {
	from, text := "--peer", given
	if text == "" {
		from, text = "probe.peer", configured
	}
	if text == "" {
		return netip.AddrPort{}, nil
	}
	host, _, err := net.SplitHostPort(text)
	if err != nil || host == "" || strings.HasSuffix(text, ":0") {
		return netip.AddrPort{}, usageError("%s %s: not HOST:PORT", from, text)
	}
	address, err := resolvePeer(ctx, text)
	if err != nil {
		return netip.AddrPort{}, usageError("%s %s: %w", from, text, err)
	}
	return address, nil
}

// resolvePeer gives the first address: the peer listens on all of its host.
func resolvePeer(ctx context.Context, hostPort string) (netip.AddrPort, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "udp", hostPort) // sends nothing
	if err != nil {
		var name *net.DNSError
		var address *net.AddrError
		switch {
		case errors.As(err, &name):
			return netip.AddrPort{}, errors.New("no such name")
		case errors.As(err, &address):
			return netip.AddrPort{}, errors.New(address.Err)
		}
		return netip.AddrPort{}, err
	}
	defer func() { _ = conn.Close() }()
	to := conn.RemoteAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
}
