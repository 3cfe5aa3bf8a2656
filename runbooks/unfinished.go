package runbooks

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// Unfinished tells whether the run stands in the way of the next one.
func (s RunSummary) Unfinished() bool { return s.Changes && s.Outcome == "" }

// State is the outcome, or else why there is none: a damaged journal is not
// believed, and "cut_off" is one without an end that changed nothing.
func (s RunSummary) State() string {
	switch {
	case s.Damage != "":
		return "damaged"
	case s.Unfinished():
		return "unfinished"
	case s.Outcome == "":
		return "cut_off"
	}
	return s.Outcome
}

// UnfinishedError says that an earlier run was not ended, or that nobody can
// read any more whether it was.
type UnfinishedError struct{ Run RunSummary }

func (e *UnfinishedError) Error() string {
	switch r := e.Run; {
	case r.Damage != "":
		return "start run: " + r.Damage
	case r.Elsewhere:
		return fmt.Sprintf("start run: the witness knows %s of %s, begun %s by %s on %s, and not its end",
			r.Runbook, r.Run, r.Started.Format(time.RFC3339), r.Operator, r.Host)
	default:
		return fmt.Sprintf("start run: %s of %s, begun %s by %s, is unfinished", r.Runbook, r.Run, r.Started.Format(time.RFC3339), r.Operator)
	}
}

// refuseUnfinished keeps a new run from starting over an unfinished one, here
// or, as far as the witness knows, on another machine. It gives all runs of
// the mesh. The warning says that the witness could not be asked.
func (e *Engine) refuseUnfinished(ctx context.Context, override string) (all []RunSummary, warning string, err error) {
	runs, err := Runs(e.StateDir)
	if err != nil {
		return nil, "", err
	}
	others, err := e.elsewhere(ctx, runs)
	if err != nil {
		warning = "whether another machine has an unfinished run of this mesh is not known: " + err.Error()
	}
	all = append(runs, others...)
	passed := passedBy(all)
	passed[override] = true
	for _, r := range all {
		unreadable := r.Damage != "" && (r.Changes || r.Started.IsZero())
		if (unreadable || r.Unfinished()) && !passed[r.Run] {
			return all, warning, &UnfinishedError{Run: r}
		}
	}
	if override == "" {
		return all, warning, nil
	}
	return all, warning, e.canBePassed(all, override)
}

// canBePassed refuses an override that passes by nothing: it was meant for
// something else.
func (e *Engine) canBePassed(all []RunSummary, override string) error {
	for _, r := range all {
		if r.Run != override {
			continue
		}
		if r.Outcome != "" {
			return &FinishedError{Run: r.Run, Outcome: r.Outcome}
		}
		return nil
	}
	return &NoRunError{Run: override, Dir: RunsDir(e.StateDir)}
}

// passedBy are the runs that a later one has overridden or taken over. One
// whose journal is damaged or elsewhere cannot be ended in any other way.
func passedBy(runs []RunSummary) map[string]bool {
	passed := map[string]bool{}
	for _, r := range runs {
		passed[r.start.Override], passed[r.start.Adopts] = true, true
	}
	delete(passed, "")
	return passed
}

// passBy ends the run that a new one overrides, in its own journal, where it
// is here and can be written.
func (e *Engine) passBy(run, by, reason string) error {
	summary, err := findRun(e.StateDir, run)
	if err != nil || !summary.Unfinished() || summary.Damage != "" {
		return nil //nolint:nilerr // elsewhere or damaged: the new run's own start says it
	}
	journal, err := e.openJournal(run)
	if err != nil {
		return err
	}
	defer journal.Close() //nolint:errcheck // every append was synced already
	journal.SetActor(e.Stamp)
	_, err = journal.Append(witnessclient.Event{Name: witnessclient.RunFinished, Metadata: map[string]any{
		"outcome": string(Overridden), "by": by, "reason": reason,
	}})
	return err
}

// elsewhereSpan is how far back the witness is asked for unfinished runs.
const elsewhereSpan = "-30d"

// elsewhere asks the witness for changing runs of this mesh that have no
// journal here and no end. Nil without an error means that it answered.
func (e *Engine) elsewhere(ctx context.Context, local []RunSummary) ([]RunSummary, error) {
	started, err := e.Mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{"event": witnessclient.RunStarted, "metadata.mesh": e.Mesh.Name, "metadata.changes": true}, From: elsewhereSpan, To: "now",
	})
	if err != nil {
		return nil, err
	}
	here := map[string]bool{}
	for _, r := range local {
		here[r.Run] = true
	}
	found, ids := map[string]*RunSummary{}, []string{}
	for _, event := range started {
		run, _ := event.Metadata["run"].(string)
		if run == "" || here[run] || found[run] != nil {
			continue
		}
		s := &RunSummary{Run: run, Elsewhere: true}
		s.add(event)
		found[run], ids = s, append(ids, run)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	if err := e.addEnds(ctx, found, ids); err != nil {
		return nil, err
	}
	runs := make([]RunSummary, 0, len(ids))
	for _, id := range ids {
		runs = append(runs, *found[id])
	}
	return runs, nil
}

func (e *Engine) addEnds(ctx context.Context, runs map[string]*RunSummary, ids []string) error {
	quoted := make([]string, 0, len(ids))
	for _, id := range ids {
		quoted = append(quoted, regexp.QuoteMeta(id))
	}
	ended, err := e.Mesh.Witness.Query(ctx, witnessclient.Query{
		Match: map[string]any{
			"event": witnessclient.RunFinished, "metadata.run": map[string]any{"regex": "^(" + strings.Join(quoted, "|") + ")$"},
		},
		From: elsewhereSpan, To: "now",
	})
	if err != nil {
		return err
	}
	for _, event := range ended {
		run, _ := event.Metadata["run"].(string)
		if s := runs[run]; s != nil {
			s.add(event)
		}
	}
	return nil
}
