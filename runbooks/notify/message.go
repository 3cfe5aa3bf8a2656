package notify

import (
	"cmp"
	"fmt"
	"time"

	"github.com/infrafabric/meshctl/witnessclient"
)

// Kind is what a message is about; receivers choose kinds.
type Kind string

// The kinds of messages. Incident is a declared one and goes to everybody of
// its route.
const (
	Start         Kind = "start"
	Failure       Kind = "failure"
	Finish        Kind = "finish"
	HealingFailed Kind = "healing_failed"
	TURNDown      Kind = "turn_down"
	Security      Kind = "security"
	Incident      Kind = "incident"
)

// SecurityScenario is the scenario whose runs are a security matter.
const SecurityScenario = "E"

// Message is what a receiver is told. It has nothing from an event that could
// be large or secret: no plan, no facts, no parameters.
type Message struct {
	SchemaVersion int       `json:"schema_version"`
	Kind          Kind      `json:"kind"`
	Event         string    `json:"event"`
	At            time.Time `json:"at"`
	Mesh          string    `json:"mesh"`
	Run           string    `json:"run,omitempty"`
	Runbook       string    `json:"runbook,omitempty"`
	Scenario      string    `json:"scenario,omitempty"`
	FailoverID    string    `json:"failover_id,omitempty"`
	IncidentID    string    `json:"incident_id,omitempty"`
	Agent         string    `json:"agent_id,omitempty"`
	Severity      string    `json:"severity"` // critical, error, warning or info
	Operator      string    `json:"operator,omitempty"`
	Step          string    `json:"step,omitempty"`
	Outcome       string    `json:"outcome,omitempty"`
	Summary       string    `json:"summary"`

	security bool
}

// newMessage reads an event; false when nobody is told of such events.
func newMessage(mesh string, e witnessclient.Event) (Message, bool) {
	kind, severity := classify(e)
	m := Message{
		SchemaVersion: 1, Kind: kind, Event: e.Name, At: e.Timestamp, Mesh: mesh, Scenario: e.Scenario,
		Run: text(e, "run"), Runbook: text(e, "runbook"), Operator: text(e, "operator"), Step: text(e, "step"), Outcome: text(e, "outcome"),
		FailoverID: e.FailoverID, IncidentID: e.IncidentID, Agent: e.AgentID, Severity: severity,
		security: kind == Security || e.Scenario == SecurityScenario,
	}
	if m.At.IsZero() {
		m.At = time.Now()
	}
	m.Summary = cut(m.summary(e), 300)
	return m, kind != ""
}

func classify(e witnessclient.Event) (Kind, string) {
	switch e.Name {
	case witnessclient.RunStarted:
		return Start, "info"
	case "run_step_failed":
		return Failure, "error"
	case witnessclient.RunFinished:
		if text(e, "outcome") == "done" {
			return Finish, "info"
		}
		return Finish, "warning"
	case "mesh_healing_failed_final":
		return HealingFailed, "critical"
	case "all_turn_servers_unhealthy":
		return TURNDown, "critical"
	case "srtp_key_compromise_detected", "signature_verification_failed", "dtls_validation_failures", "unauthorized_connection_attempt":
		return Security, "critical"
	case "incident_declared":
		severity := map[string]string{"critical": "critical", "high": "error", "medium": "warning", "low": "info"}[e.Severity]
		if e.Scenario == SecurityScenario || e.Metadata["security"] == true {
			return Security, cmp.Or(severity, "critical")
		}
		return Incident, cmp.Or(severity, "error")
	}
	return "", ""
}

func (m Message) summary(e witnessclient.Event) string {
	who := fmt.Sprintf("mesh %s, run %s", m.Mesh, m.Run)
	switch m.Kind {
	case Start:
		return fmt.Sprintf("%s begun by %s (%s)", cmp.Or(m.Runbook, "a run"), m.Operator, who)
	case Failure:
		return fmt.Sprintf("step %s failed: %s (%s)", m.Step, text(e, "error"), who)
	case Finish:
		return fmt.Sprintf("the run ended: %s (%s)", m.Outcome, who)
	case HealingFailed:
		return fmt.Sprintf("agent %s gave up healing its partition of mesh %s: %s", cmp.Or(m.Agent, "?"), m.Mesh, text(e, "error"))
	case TURNDown:
		return fmt.Sprintf("agent %s finds no TURN server of mesh %s that relays: links without a direct path are down", cmp.Or(m.Agent, "?"), m.Mesh)
	case Incident:
		return fmt.Sprintf("incident %s declared by %s: %s (mesh %s)", m.IncidentID, m.Operator, text(e, "summary"), m.Mesh)
	}
	return fmt.Sprintf("security: %s %s %s (mesh %s)", m.Event, m.IncidentID, text(e, "summary"), m.Mesh)
}

// text is a string of an event's metadata.
func text(e witnessclient.Event, key string) string {
	value, _ := e.Metadata[key].(string)
	return value
}

func cut(text string, limit int) string {
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit-3]) + "..."
	}
	return text
}

// thread is what messages about the same thing share: the run, else what is
// the matter where.
func (m Message) thread() string {
	return cut(cmp.Or(m.Run, m.IncidentID, m.Event+"/"+m.Mesh+"/"+m.Agent), 255)
}

// over tells whether the matter is settled. A run that changed something and
// could not prove that it worked is not.
func (m Message) over() bool {
	return m.Kind == Finish && (m.Outcome == "done" || m.Outcome == "undone" || m.Outcome == "aborted" || m.Outcome == "refused")
}
