package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/runbooks"
	"github.com/infrafabric/meshctl/witnessclient"
)

// The exit codes, the same for every output format. When several apply the
// order is 130, 1, 7, 6, 3, 4, 9, 0.
const (
	exitOK           = 0
	exitInternal     = 1   // meshctl itself failed
	exitUsage        = 2   // usage or configuration
	exitUnhealthy    = 3   // a check failed
	exitUnknown      = 4   // could not be determined
	exitRefused      = 5   // a precondition failed, nothing was changed
	exitUndone       = 6   // failed, changes undone
	exitFailed       = 7   // failed, changes NOT undone: a human must look
	exitLocked       = 8   // locked by somebody, or an unfinished run is in the way
	exitAuditPending = 9   // done, but audit events are not delivered yet
	exitChanges      = 10  // --dry-run --exit-code: there are changes to make
	exitInterrupted  = 130 // interrupted; resumable
)

// exitError ends a command with a code. A nil err means that the result was
// already shown.
type exitError struct {
	code  int
	err   error
	hints []string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// withCode is nil for 0, so that a command can end with its code.
func withCode(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// exit turns a command's error into its code, showing it once with its hints.
func (a *app) exit(err error) int {
	if err == nil {
		return exitOK
	}
	var ended *exitError
	if errors.As(err, &ended) && ended.err == nil {
		return ended.code
	}
	if cause := context.Cause(a.ctx); cause != nil {
		err = cause // whatever else went wrong, that was why
	}
	code, hints := classify(err)
	var file *fs.PathError
	if code == exitInternal && a.stateDir != "" && errors.As(err, &file) && errors.Is(err, fs.ErrPermission) && strings.HasPrefix(file.Path, a.stateDir) {
		code, hints = exitRefused, []string{"this user may not write to state_dir " + a.stateDir + ": run as one who may, or name another"}
	}
	if a.noConfig && code != exitUsage && code != exitInterrupted {
		hints = append(hints, "no configuration was found, the defaults hold: --config, $MESHCTL_CONFIG or ./meshctl.yaml; meshctl config init writes one")
	}
	a.showError(err, code, hints)
	return code
}

// classify finds the code and the hints of an error.
func classify(err error) (code int, hints []string) {
	var (
		ended      *exitError
		held       *runbooks.HeldError
		unfinished *runbooks.UnfinishedError
		param      *runbooks.ParamError
		noRun      *runbooks.NoRunError
		finished   *runbooks.FinishedError
		adopted    *runbooks.AdoptedError
		damage     *witnessclient.DamageError
		busy       *witnessclient.BusyError
	)
	switch {
	case errors.As(err, &ended):
		return ended.code, ended.hints
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted, nil
	case errors.As(err, &held):
		return exitLocked, []string{"wait for it, or talk to them; the lock goes when that process ends"}
	case errors.As(err, &busy):
		return exitLocked, []string{"another meshctl is at work on this run"}
	case errors.As(err, &unfinished):
		return exitLocked, unfinishedHints(unfinished.Run)
	case errors.As(err, &adopted):
		return exitLocked, []string{"look there, or end it here without touching anything: meshctl runs abort " + adopted.Run}
	case errors.As(err, new(*witnessclient.HeldError)):
		return exitUnhealthy, nil
	case errors.As(err, new(*runbooks.AskError)):
		return exitUnknown, nil
	case errors.As(err, &param), errors.As(err, &noRun), errors.As(err, &finished):
		return exitUsage, nil
	case errors.As(err, &damage):
		return exitInternal, []string{"the journal was damaged after it was written; keep it as evidence and look at " + damage.Path}
	}
	return exitInternal, nil
}

// unfinishedHints says what can be done about a run that is in the way.
func unfinishedHints(r runbooks.RunSummary) []string {
	passBy := "or pass by it:   --override " + r.Run + " --reason ..."
	switch {
	case r.Damage != "":
		return []string{"the journal was damaged after it was written; keep it as evidence", "pass by it: --override " + r.Run + " --reason ..."}
	case r.Elsewhere:
		return []string{
			"is it still going on there? " + r.Operator + " on " + r.Host + " knows", "look at it:      meshctl runs show --from witness " + r.Run,
			"take it over:    meshctl runs adopt " + r.Run + " --reason ...", passBy,
		}
	}
	return []string{"go on with it:   meshctl runs resume " + r.Run, "or take it back: meshctl runs abort --undo " + r.Run, passBy}
}

// resultCode is the exit code of a run.
func resultCode(r runbooks.Result) int {
	switch r.Outcome {
	case runbooks.Interrupted:
		return exitInterrupted
	case runbooks.Failed:
		return exitFailed
	case runbooks.Undone:
		return exitUndone
	case runbooks.Refused:
		return exitRefused
	case runbooks.Undetermined:
		return exitUnknown
	case runbooks.Done, runbooks.Aborted:
		return auditCode(r.Audit)
	}
	return exitOK
}

func auditCode(a runbooks.Audit) int {
	if a.Delivered < a.Events {
		return exitAuditPending
	}
	return exitOK
}

// verdictCode is the exit code of a verdict; failOn moves the line.
func verdictCode(v probes.Verdict, failOn string) int {
	switch v {
	case probes.Pass, probes.Skip:
		return exitOK
	case probes.Warn:
		if failOn == "warn" {
			return exitUnhealthy
		}
		return exitOK
	case probes.Fail:
		return exitUnhealthy
	}
	if failOn == "fail" {
		return exitOK
	}
	return exitUnknown
}

// failOnFlag adds --fail-on to a command that ends with a verdict.
func failOnFlag(cmd *cobra.Command, failOn *string) {
	*failOn = "unknown"
	choiceFlag(cmd, failOn, "fail-on", "worst `VERDICT` that is not healthy: warn, unknown or fail", "warn", "unknown", "fail")
}

// validationCode is the exit code of a validation: one that was cut short is
// never green, and an undelivered verdict is said.
func validationCode(ctx context.Context, v runbooks.Validation, failOn string) int {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errInterrupted):
		return exitInterrupted
	case cause != nil:
		return exitUnknown
	}
	if code := verdictCode(v.Verdict, failOn); code != exitOK {
		return code
	}
	return auditCode(v.Audit)
}
