package lab

import (
	"net/http"
)

// State is what the lab knows about itself, for another terminal.
type State struct {
	TURN     []TURNState   `json:"turn"`
	Agents   []string      `json:"agents"` // that belong to the mesh
	Faults   []Fault       `json:"faults"` // that are there now
	Delivery DeliveryCount `json:"delivery"`
	Requests []Request     `json:"requests"` // to the controller, writes only
	Witness  WitnessCount  `json:"witness"`
}

// TURNState is a TURN server in State.
type TURNState struct {
	Name       string `json:"name"`
	URI        string `json:"uri"`
	InRotation bool   `json:"in_rotation"`
}

// State gives the lab's state as GET /lab/state has it.
func (l *Lab) State() State {
	s := State{
		TURN: []TURNState{}, Agents: append([]string{}, l.Agents...), Faults: l.Active(),
		Delivery: l.Delivery(), Requests: []Request{}, Witness: l.WitnessCount(),
	}
	for _, t := range l.TURN {
		s.TURN = append(s.TURN, TURNState{t.Name, t.URI.String(), t.InRotation})
	}
	for _, r := range l.Requests() {
		if r.Write() {
			s.Requests = append(s.Requests, r)
		}
	}
	return s
}

// controlHandler lets another terminal break and heal the lab. It has no key,
// but a web page that is open on the same machine is kept out.
func (l *Lab) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /lab/state", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, l.State())
	})
	mux.HandleFunc("GET /metrics", l.metrics.serve)
	mux.HandleFunc("GET /lab/faults", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"faults": Faults(), "active": l.Active()})
	})
	mux.HandleFunc("POST /lab/faults/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, l.Inject(r.Context(), requestedFault(r)))
	})
	mux.HandleFunc("POST /lab/faults/{name}/heal", func(w http.ResponseWriter, r *http.Request) {
		answer(w, l.Heal(r.Context(), requestedFault(r)))
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

func requestedFault(r *http.Request) Fault {
	return Fault{Name: r.PathValue("name"), Target: r.URL.Query().Get("target")}
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	writeOK(w)
}
