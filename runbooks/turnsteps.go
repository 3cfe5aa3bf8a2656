package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/wire"
	"github.com/infrafabric/meshctl/runbooks/targets"
)

// envBefore is what undoing the edit needs: the old and new value of every
// assignment, in file order, and both hashes. URIs carry no secrets.
type envBefore struct {
	Values     map[string][][2]string `json:"values"`
	HashBefore string                 `json:"hash_before"`
	HashAfter  string                 `json:"hash_after"`
}

// editEnv makes the change in both lists of a file.
func (t *turnRecover) editEnv(f targets.EnvFile) (targets.EnvFile, error) {
	edited, _, err := t.editWithRecord(f)
	return edited, err
}

func (t *turnRecover) editWithRecord(f targets.EnvFile) (targets.EnvFile, envBefore, error) {
	record := envBefore{Values: map[string][][2]string{}, HashBefore: f.Hash()}
	for _, key := range []string{keyTURN, keySTUN} {
		var err error
		f, err = f.With(key, func(value string) string {
			edited := t.edit(key, value)
			record.Values[key] = append(record.Values[key], [2]string{value, edited})
			return edited
		})
		if err != nil {
			return f, record, err
		}
	}
	record.HashAfter = f.Hash()
	return f, record, nil
}

func (t *turnRecover) observeEnv(context.Context) (Observation, error) {
	f, err := targets.ReadEnvFile(t.mesh.EnvFile)
	if err != nil {
		return Observation{}, err
	}
	_, record, err := t.editWithRecord(f)
	if err != nil {
		return Observation{}, err
	}
	o := Observation{Met: record.HashBefore == record.HashAfter, Match: record.HashBefore}
	if o.Met {
		o.Summary = t.params.Failed + " is not listed"
		return o, nil
	}
	o.Summary, o.Diff = t.params.Failed+" is listed", envDiff(record)
	o.Before, err = json.Marshal(record)
	return o, err
}

func envDiff(record envBefore) string {
	var lines []string
	for _, key := range []string{keyTURN, keySTUN} {
		for _, v := range record.Values[key] {
			if v[0] != v[1] {
				lines = append(lines, "- "+key+"="+v[0], "+ "+key+"="+v[1])
			}
		}
	}
	return strings.Join(lines, "\n")
}

func (t *turnRecover) applyEnv(_ context.Context, _ string, o Observation) error {
	f, err := targets.ReadEnvFile(t.mesh.EnvFile)
	if err != nil {
		return err
	}
	if f.Hash() != o.Match {
		return &targets.ChangedError{Object: t.mesh.EnvFile}
	}
	edited, err := t.editEnv(f)
	if err != nil {
		return err
	}
	return edited.Replace(o.Match)
}

// undoEnv puts the old values back, unless somebody else has edited since.
func (t *turnRecover) undoEnv(_ context.Context, _ string, before json.RawMessage) error {
	var record envBefore
	if err := json.Unmarshal(before, &record); err != nil {
		return fmt.Errorf("undo edit of %s: %w", t.mesh.EnvFile, err)
	}
	f, err := targets.ReadEnvFile(t.mesh.EnvFile)
	if err != nil {
		return err
	}
	switch f.Hash() {
	case record.HashBefore:
		return nil
	case record.HashAfter:
	default:
		return &targets.ChangedError{Object: t.mesh.EnvFile}
	}
	for key, values := range record.Values {
		i := 0
		f, err = f.With(key, func(string) string { i++; return values[i-1][0] })
		if err != nil {
			return err
		}
	}
	if f.Hash() != record.HashBefore {
		return fmt.Errorf("undo edit of %s: the old values do not give the old file", t.mesh.EnvFile)
	}
	return f.Replace(record.HashAfter)
}

// desired is the whole new list, as it stands in the plan's facts.
func (t *turnRecover) desired() ([]wire.ServerURI, error) { return wireServers(t.facts.ServersAfter) }

func (t *turnRecover) observeReload(ctx context.Context) (Observation, error) {
	desired, err := t.desired()
	if err != nil {
		return Observation{}, err
	}
	diff := "+ turn_servers: " + strings.Join(t.facts.ServersAfter, ", ")
	config, err := t.mesh.Controller.Config(ctx)
	if errors.As(err, new(*control.NotOfferedError)) || (err == nil && !config.Offered) {
		return t.reloadByEvents(ctx, diff)
	}
	if err != nil {
		return Observation{}, err
	}
	current, err := wireServers(config.TURNServers)
	if err != nil {
		return Observation{}, fmt.Errorf("read configuration of the controller: %w", err)
	}
	o := Observation{Met: sameServers(current, desired), Match: strings.Join(config.TURNServers, ",")}
	o.Summary = "the controller gives agents " + strings.Join(config.TURNServers, ", ")
	if !o.Met {
		o.Diff = "- turn_servers: " + strings.Join(config.TURNServers, ", ") + "\n" + diff
	}
	o.Before, err = json.Marshal(config.TURNServers)
	return o, err
}

// reloadByEvents is the proof on a mesh whose controller does not show its
// configuration: agents that report the replacement have got it. One that was
// in their list before proves nothing.
func (t *turnRecover) reloadByEvents(ctx context.Context, diff string) (Observation, error) {
	before, err := json.Marshal(t.facts.ServersBefore)
	if err != nil {
		return Observation{}, err
	}
	o := Observation{Diff: diff, Before: before}
	if servers, err := wireServers(t.facts.ServersBefore); err != nil || listed(servers, t.replacement.Name()) {
		o.Blind = "the controller does not show its turn_servers, and agents had the replacement in their list before"
		return o, err
	}
	seen, err := t.seenOnReplacement(ctx)
	switch {
	case err != nil:
		o.Blind = "the controller does not show its turn_servers, and the witness could not be asked: " + err.Error()
	case seen == 0:
		o.Blind = "the controller does not show its turn_servers, and no turn_connection_detected event names the replacement"
	default:
		o.Met, o.Summary = true, fmt.Sprintf("%d turn_connection_detected events name the replacement", seen)
	}
	return o, nil
}

func (t *turnRecover) applyReload(ctx context.Context, key string, _ Observation) error {
	return t.mesh.Controller.ReloadConfig(ctx, key, t.facts.ServersAfter)
}

// undoReload gives the controller its old list again and looks whether it has it.
func (t *turnRecover) undoReload(ctx context.Context, key string, before json.RawMessage) error {
	var servers []string
	if err := json.Unmarshal(before, &servers); err != nil {
		return fmt.Errorf("undo reload: %w", err)
	}
	config, err := t.mesh.Controller.Config(ctx)
	if err == nil && config.Offered && strings.Join(config.TURNServers, ",") == strings.Join(servers, ",") {
		return nil
	}
	if err := t.mesh.Controller.ReloadConfig(ctx, key, servers); err != nil {
		return err
	}
	config, err = t.mesh.Controller.Config(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("undo reload: sent, and not seen to have taken effect: %w", err)
	case !config.Offered:
		return errors.New("undo reload: sent, and the controller does not show whether it took effect")
	case strings.Join(config.TURNServers, ",") != strings.Join(servers, ","):
		return errors.New("undo reload: the controller still has another list")
	}
	return nil
}

func (t *turnRecover) applyReconnect(ctx context.Context, key string, _ Observation) error {
	if err := t.mesh.Controller.ReconnectTURNPeers(ctx, key); err != nil {
		return err
	}
	t.reconnected = true
	return nil
}
