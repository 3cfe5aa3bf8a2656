// Package report answers: what does the journal of a run tell a manager, an
// auditor and the people in the incident channel?
//
// Everything in a journal is data that others may have written: names of
// servers, replies, operators. It is escaped wherever it is shown.
package report

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Report is a run as its journal shows it.
type Report struct {
	Run, Runbook, Scenario, Mesh   string
	Operator, Host, Version        string
	FailoverID, IncidentID, Reason string
	Blast                          string
	Outcome                        string // "" while the run is not finished
	Changes                        bool   // it is of a runbook, which changes something
	Started, Ended                 time.Time
	Recovered                      time.Duration // 0: not known
	Objective                      time.Duration // 0: the scenario has none
	Steps                          []Step
	Marks                          []Mark
	Evidence                       Evidence
}

// Step is one step of the plan and what became of it.
type Step struct {
	ID, Title, Summary, Diff string
	Verdict                  probes.Verdict // skip: not reached
	Applied                  bool           // its change was begun
	Undone                   string         // what undoing it gave, "" when it was not undone
	Begun, Ended             time.Time
}

// Mark is one event of the journal.
type Mark struct {
	Seq          int
	At           time.Time
	Name, Detail string
	Delivered    bool // the witness has it
	Event        bool // false: a note, which the witness does not get
}

// Evidence is what the journal proves by itself.
type Evidence struct {
	Chain, Reason, Head string
	Events, Delivered   int
}

// start is what run_started carries of interest here.
type start struct {
	Runbook     string `json:"runbook"`
	Mesh        string `json:"mesh"`
	Reason      string `json:"reason"`
	Changes     bool   `json:"changes"`
	ObjectiveMS int64  `json:"objective_ms"`
	Plan        struct {
		Blast string `json:"blast_radius"`
		Steps []struct {
			ID    string `json:"id"`
			Title string `json:"title"`
			Diff  string `json:"diff"`
		} `json:"steps"`
	} `json:"plan"`
}

// detail is what the events of a step and the end of a run carry.
type detail struct {
	Step        string         `json:"step"`
	Verdict     probes.Verdict `json:"verdict"`
	Summary     string         `json:"summary"`
	Error       string         `json:"error"`
	Diff        string         `json:"diff"`
	Outcome     string         `json:"outcome"`
	RecoveredMS int64          `json:"recovered_ms"`
}

// New reads a journal's contents and its verification.
func New(c witnessclient.Contents, v witnessclient.Verification) Report {
	r := Report{
		Run: c.Stamp.Run, Operator: c.Stamp.Operator, Host: c.Stamp.Host, Version: c.Stamp.Version,
		FailoverID: c.Stamp.FailoverID, IncidentID: c.Stamp.IncidentID, Scenario: c.Stamp.Scenario,
		Started: c.Created, Ended: c.Created,
		Evidence: Evidence{Chain: v.Chain, Reason: v.Reason, Head: v.Head, Events: v.Events, Delivered: v.Acked},
	}
	for _, record := range c.Records {
		if record.At.After(r.Ended) {
			r.Ended = record.At
		}
		r.Marks = append(r.Marks, mark(record))
		if record.IsEvent() {
			r.add(record)
		}
	}
	return r
}

func mark(record witnessclient.Record) Mark {
	m := Mark{Seq: record.Seq, At: record.At, Name: record.Event.Name, Delivered: record.Acked, Event: record.IsEvent()}
	if !m.Event {
		m.Name, m.Detail = record.Note, string(record.Data)
		return m
	}
	var d detail
	read(record.Event, &d)
	var parts []string
	for _, part := range []string{d.Step, string(d.Verdict), d.Summary, d.Error, d.Outcome} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	m.Detail = strings.Join(parts, ": ")
	return m
}

// read takes from an event's metadata what it can: a field of another type is
// left out.
func read(e witnessclient.Event, into any) {
	for key, value := range e.Metadata {
		if one, err := json.Marshal(map[string]any{key: value}); err == nil {
			_ = json.Unmarshal(one, into) // what does not fit is not shown
		}
	}
}

func (r *Report) add(record witnessclient.Record) {
	e, at := record.Event, record.At
	var d detail
	read(e, &d)
	step := r.step(d.Step)
	switch e.Name {
	case witnessclient.RunStarted:
		r.begin(e, at)
	case "run_step_intent":
		step.Applied, step.Diff, step.Begun = true, d.Diff, at
	case "run_step_done", "run_step_failed":
		step.Verdict, step.Summary, step.Ended = known(d.Verdict), d.Summary, at
		if e.Name == "run_step_failed" {
			step.Verdict, step.Summary = probes.Fail, d.Error
		}
	case "run_undone":
		step.Undone = d.Summary
	case witnessclient.RunFinished:
		r.Outcome = d.Outcome
		if d.Outcome == "done" {
			r.Recovered = time.Duration(d.RecoveredMS) * time.Millisecond
		}
	}
}

// known is a verdict that there is; a journal can say anything.
func known(v probes.Verdict) probes.Verdict {
	switch v {
	case probes.Pass, probes.Warn, probes.Fail, probes.Skip:
		return v
	}
	return probes.Unknown
}

func (r *Report) begin(e witnessclient.Event, at time.Time) {
	var s start
	read(e, &s)
	r.Runbook, r.Mesh, r.Reason, r.Started = s.Runbook, s.Mesh, s.Reason, at
	r.Changes = s.Changes
	r.Objective, r.Blast = time.Duration(s.ObjectiveMS)*time.Millisecond, s.Plan.Blast
	for _, planned := range s.Plan.Steps {
		r.Steps = append(r.Steps, Step{ID: planned.ID, Title: planned.Title, Verdict: probes.Skip, Summary: "not reached"})
	}
}

// step is a step by its id; one that no plan had is added.
func (r *Report) step(id string) *Step {
	for i := range r.Steps {
		if r.Steps[i].ID == id {
			return &r.Steps[i]
		}
	}
	if id == "" {
		return new(Step) // the event is not of a step
	}
	r.Steps = append(r.Steps, Step{ID: id, Title: id, Verdict: probes.Skip})
	return &r.Steps[len(r.Steps)-1]
}

// Changed lists the steps whose change stands, as far as the journal shows.
func (r Report) Changed() []string {
	var ids []string
	for _, s := range r.Steps {
		if s.Applied && s.Undone == "" {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// outcome is how the run ended, in words.
func (r Report) outcome() string {
	switch {
	case r.Evidence.Chain == witnessclient.ChainBroken:
		return "how it ended cannot be read from this journal"
	case r.Outcome == "":
		return "NOT FINISHED: a human must look"
	case !r.Changes:
		return "ended: " + r.Outcome
	}
	switch r.Outcome {
	case "done":
		if strings.HasSuffix(r.Runbook, "recover") {
			return "recovered"
		}
		return "done, and seen to be so"
	case "unknown":
		return "changed, and not proved to have worked"
	case "undone":
		return "failed or given up; all changes were taken back"
	case "aborted":
		return "ended by hand; its changes stand"
	case "refused":
		return "refused; nothing was changed"
	}
	return "ended: " + r.Outcome
}

// Lines are the three lines for a manager: what, how fast, what stands.
func (r Report) Lines() [3]string {
	first := fmt.Sprintf("%s%s of mesh %s by %s, %s: %s.", r.Runbook, inScenario(r.Scenario), r.Mesh, r.Operator,
		r.Started.UTC().Format("2006-01-02 15:04 UTC"), r.outcome())
	changed := "nothing is changed"
	if ids := r.Changed(); len(ids) > 0 {
		changed = "changed and standing: " + strings.Join(ids, ", ")
	}
	evidence := fmt.Sprintf("the evidence is whole (%d events, %d delivered to the witness)", r.Evidence.Events, r.Evidence.Delivered)
	if r.Evidence.Chain != witnessclient.ChainOK {
		evidence = fmt.Sprintf("the evidence is %s: %s", r.Evidence.Chain, r.Evidence.Reason)
	}
	return [3]string{first, r.speed(), strings.ToUpper(changed[:1]) + changed[1:] + "; " + evidence + "."}
}

func inScenario(scenario string) string {
	if scenario == "" {
		return ""
	}
	return " (scenario " + scenario + ")"
}

// speed compares with the objective only what was proved to have recovered.
func (r Report) speed() string {
	switch {
	case r.Recovered == 0 && !r.Changes:
		return fmt.Sprintf("It took %s.", rounded(r.Ended.Sub(r.Started)))
	case r.Recovered == 0:
		return fmt.Sprintf("When the mesh had recovered is not known; the run took %s.", rounded(r.Ended.Sub(r.Started)))
	case r.Objective == 0:
		return fmt.Sprintf("Recovered after %s; this scenario has no objective.", rounded(r.Recovered))
	case r.Recovered <= r.Objective:
		return fmt.Sprintf("Recovered after %s; the objective is %s: met.", rounded(r.Recovered), rounded(r.Objective))
	}
	return fmt.Sprintf("Recovered after %s; the objective is %s: MISSED.", rounded(r.Recovered), rounded(r.Objective))
}

func rounded(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}
