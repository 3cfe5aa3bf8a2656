// Command meshctl answers: what is wrong with this mesh, what will repair it,
// and did it? It is the only package that knows flags, environment, terminal
// and exit codes.
package main

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	log.SetOutput(io.Discard) // of libraries; what matters is in their errors
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// errInterrupted is the cause of a context ended by the operator.
var errInterrupted = errors.New("interrupted")

// run executes one command line and returns its exit code.
func run(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := interruptible()
	defer stop()
	a := &app{in: in, out: out, err: errOut, getenv: os.Getenv, ctx: ctx}
	root := newRootCmd(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.prepared {
		// No command has begun: the command line itself was refused.
		err = usageError("%w", err)
		if a.command == "" {
			a.command, a.output, a.outfile = commandName(cmd), wantedOutput(args), ""
		}
	}
	return a.exit(err)
}

// interruptible gives a context that the first interrupt ends. The second one
// ends the process at once: the journal is durable at every point.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			case <-signals:
				if n > 0 {
					os.Exit(exitInterrupted)
				}
				cancel(errInterrupted)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel(nil)
	}
}
