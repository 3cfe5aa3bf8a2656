package runbooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Change is one difference between two statuses. Was or Now is nil where the
// part, or the fact, was or is not there.
type Change struct {
	Part string `json:"part"`
	What string `json:"what"` // "verdict", or the name of a fact
	Was  any    `json:"was"`
	Now  any    `json:"now"`
	Why  string `json:"why,omitempty"` // the part's summary now
}

// Text says it in a line.
func (c Change) Text() string {
	text := fmt.Sprintf("%s -> %s", shown(c.Was), shown(c.Now))
	if c.Why != "" {
		text += " (" + c.Why + ")"
	}
	return text
}

func shown(v any) string {
	switch v := v.(type) {
	case nil:
		return "(not there)"
	case string:
		return v
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}

// Compare lists what differs: verdicts, and facts that should stay as they
// are. What is measured differs every time and is left out.
func Compare(before, after Status) []Change {
	was, now := partsByID(before), partsByID(after)
	changes := []Change{}
	for _, id := range unionOfKeys(was, now) {
		old, had := was[id]
		current, has := now[id]
		switch {
		case !had:
			changes = append(changes, Change{Part: id, What: "verdict", Now: string(current.Verdict), Why: current.Summary})
		case !has:
			changes = append(changes, Change{Part: id, What: "verdict", Was: string(old.Verdict)})
		default:
			changes = append(changes, compareParts(id, old, current)...)
		}
	}
	return changes
}

func compareParts(id string, old, current Part) []Change {
	changes := []Change{}
	if old.Verdict != current.Verdict || old.Code != current.Code {
		changes = append(changes, Change{Part: id, What: "verdict", Was: string(old.Verdict), Now: string(current.Verdict), Why: current.Summary})
	}
	for _, name := range unionOfKeys(old.Facts, current.Facts) {
		if a, b := old.Facts[name], current.Facts[name]; shown(a) != shown(b) {
			changes = append(changes, Change{Part: id, What: name, Was: a, Now: b})
		}
	}
	return changes
}

func partsByID(s Status) map[string]Part {
	parts := map[string]Part{}
	for _, p := range s.Parts {
		parts[p.ID()] = p
	}
	return parts
}

func unionOfKeys[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
