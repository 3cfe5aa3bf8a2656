package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/runbooks"
)

type turnMoveOptions struct {
	changeOptions
	params runbooks.TurnMoveParams
}

func newTurnDrainCmd(a *app) *cobra.Command {
	var o turnMoveOptions
	cmd := &cobra.Command{
		Use:   "drain --server HOST[:PORT]",
		Short: "Move users off a TURN server that works, for its maintenance",
		Long: `drain takes a TURN server out of the env file's TURN_SERVERS and out of the list
that the controller gives to agents, has the agents move, and proves that nobody
uses it any more and that nobody was cut off. Agents of meshctl's kind make the
new path before they leave the old one.

It refuses while none of the other servers is proved to relay, and a name that the
mesh has never had: in its lists, under its links or in the lists of its runs.
` + "`meshctl turn restore`" + ` is the way back.

Exit status: 0 moved or nothing to do, 4 done but not proved, 5 refused and
nothing changed, 6 failed and undone, 7 failed and NOT undone, 8 locked, 9 done
but the audit events are not delivered yet, 130 interrupted and resumable.`,
		Example: `  meshctl turn drain --server turn1.example.com --reason "kernel update"`,
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runTurnMove(cmd, o, runbooks.NewTurnDrain)
		},
	}
	cmd.Flags().StringVar(&o.params.Server, "server", "", "the server, `HOST[:PORT]`")
	o.registerMonitor(cmd)
	o.register(cmd, a)
	_ = cmd.RegisterFlagCompletionFunc("server", a.completeServers)
	return cmd
}

func newTurnRestoreCmd(a *app) *cobra.Command {
	var o turnMoveOptions
	cmd := &cobra.Command{
		Use:   "restore --server URI",
		Short: "Return a repaired TURN server to use",
		Long: `restore proves that a TURN server relays, puts it at the head of the env file's
TURN_SERVERS and of the list that the controller gives to agents, has the agents
move to it, and proves that they are there. It undoes ` + "`meshctl turn drain`" + ` and is the
last step of a recovery. A server that the mesh has never had is refused as a
typing error, unless --new says otherwise.

Exit status: as of ` + "`meshctl turn drain`" + `.`,
		Example: `  meshctl turn restore --server turn:turn1.example.com:3478?transport=udp`,
		Args:    exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runTurnMove(cmd, o, runbooks.NewTurnRestore)
		},
	}
	cmd.Flags().StringVar(&o.params.Server, "server", "", "the TURN `URI` as it stood in the list")
	cmd.Flags().BoolVar(&o.params.New, "new", false, "add a server that the mesh has not had before")
	o.registerMonitor(cmd)
	o.register(cmd, a)
	_ = cmd.RegisterFlagCompletionFunc("server", cobra.NoFileCompletions)
	return cmd
}

func (a *app) runTurnMove(cmd *cobra.Command, o turnMoveOptions, build func(*runbooks.Mesh, runbooks.TurnMoveParams) (*runbooks.Recovery, error)) error {
	if o.params.Server == "" {
		return usageError("turn %s: --server is required", cmd.Name())
	}
	return a.change(cmd, o.changeOptions, func(m *runbooks.Mesh, monitor time.Duration) (*runbooks.Recovery, error) {
		o.params.Monitor = monitor
		return build(m, o.params)
	})
}
