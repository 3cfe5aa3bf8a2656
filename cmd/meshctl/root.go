package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is what every command has: its streams, the environment and the flags
// that all commands share.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string

	configPath string
	output     string
	outfile    string
	timeout    time.Duration
	quiet      bool
	verbose    bool
	color      string
	operator   string
	command    string // for the document that reports an error
	prepared   bool   // the command line was accepted
	ctx        context.Context

	// Of the configuration that was read, for errors.
	stateDir string
	noConfig bool
}

func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "meshctl",
		Short: "Recover a WebRTC agent mesh, and prove it",
		Long: `meshctl finds out what is wrong with a WebRTC agent mesh, carries out the
recovery, and proves that it worked. A green answer is always true: no data is
"unknown", never "pass".

New here? "meshctl drill A" builds a whole mesh on this machine, kills a TURN
server under traffic, recovers it and shows the proof.`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.configPath, "config", "", "configuration `FILE` (default $MESHCTL_CONFIG, ./meshctl.yaml, $XDG_CONFIG_HOME/meshctl/config.yaml)")
	flags.StringVarP(&a.output, "output", "o", "text", "output `FORMAT`: text or json; for some commands also jsonl, junit or prom")
	flags.StringVar(&a.outfile, "outfile", "", "write the result to this `FILE`, whole or not at all")
	flags.DurationVar(&a.timeout, "timeout", 0, "end the whole command after this `TIME` (0: no limit)")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress on standard error")
	flags.BoolVar(&a.verbose, "verbose", false, "show every detail that is known")
	a.color = "auto"
	flags.Var(choice{&a.color, []string{"auto", "always", "never"}}, "color", "`WHEN` to colour: auto, always or never")
	flags.StringVar(&a.operator, "operator", "", "`NAME` for the audit log (default $MESHCTL_OPERATOR, $SUDO_USER, login name)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.AddCommand(
		newProbeCmd(a), newStatusCmd(a), newScenariosCmd(a), newExplainCmd(a), newTurnCmd(a), newMeshCmd(a), newValidateCmd(a), newDrillCmd(a), newLabCmd(a),
		newWitnessCmd(a), newRunsCmd(a), newConfigCmd(a), newIncidentCmd(a), newVersionCmd(a), newManualCmd(),
	)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Args, cmd.RunE = cobra.ArbitraryArgs, runGroup
		}
	}
	completeFlags(root)
	return root
}

// flagError says what is wrong with the value of a flag as we say it elsewhere.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		why := invalid.Unwrap()
		if errors.Is(why, strconv.ErrSyntax) || errors.Is(why, strconv.ErrRange) {
			why = errors.New("not a number that can be meant")
		}
		return usageError("--%s %s: %w", invalid.GetFlag().Name, invalid.GetValue(), why)
	}
	return usageError("%w", err)
}

// prepare checks the shared flags before any command runs.
func (a *app) prepare(cmd *cobra.Command) error {
	a.command = commandName(cmd)
	if err := a.checkOutput(cmd); err != nil {
		return err
	}
	if err := a.checkOutfile(); err != nil {
		return err
	}
	if a.timeout < 0 {
		return usageError("--timeout %s: less than nothing", a.timeout)
	}
	a.prepared = true
	if a.timeout > 0 {
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), a.timeout, &exitError{
			code: exitUnknown, err: fmt.Errorf("meshctl %s: not finished after %s (--timeout)", a.command, a.timeout),
		})
		context.AfterFunc(ctx, cancel)
		cmd.SetContext(ctx)
		a.ctx = ctx
	}
	return nil
}

// commandName is a command without the name of the program.
func commandName(cmd *cobra.Command) string {
	return strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()))
}

// terminal tells whether a stream is one that a person looks at.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: runGroup}
	cmd.AddCommand(commands...)
	return cmd
}

func runGroup(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s: unknown command %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return cmd.Help()
}

// exactArgs is cobra's, with our exit code.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError("%s: wants %s; see --help", cmd.CommandPath(), what)
		}
		return nil
	}
}
