package runbooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/mesh/control"
	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/probes"
	"github.com/infrafabric/meshctl/witnessclient"
)

const childCrash = "RUNBOOKS_TEST_CRASH"

// crashOrder is what a process that is to be killed gets to do.
type crashOrder struct {
	KillAt  int    // the boundary at which it dies; 0: never
	Run     string // to resume; "": a new one
	Runbook string
	Params  json.RawMessage

	Effects, Controller, AdminKey, Witness, WitnessKey, Signaling, Username, Password, EnvFile, StateDir string
}

// crashReport is what one that lives says.
type crashReport struct {
	Boundaries int
	Outcome    Outcome
	InDoubt    string
	Reason     string
}

// bomb counts boundaries and kills the process at one of them: no defer, no
// flush, nothing, as a power cut for everything but the disk's own cache.
type bomb struct {
	at, passed atomic.Int64
}

func (b *bomb) boundary() {
	if b.passed.Add(1) == b.at.Load() {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it arrives
	}
}

// bombedFile has a boundary before a line is written, in its middle, after it
// and after it is synced.
type bombedFile struct {
	witnessclient.File
	bomb *bomb
}

func (f bombedFile) Write(line []byte) (int, error) {
	f.bomb.boundary()
	half, err := f.File.Write(line[:len(line)/2])
	if err != nil {
		return half, err
	}
	f.bomb.boundary()
	rest, err := f.File.Write(line[half:])
	f.bomb.boundary()
	return half + rest, err
}

func (f bombedFile) Sync() error {
	err := f.File.Sync()
	f.bomb.boundary()
	return err
}

// bombed has boundaries around everything that changes something.
func bombed(rb Runbook, b *bomb) Runbook {
	build := rb.Build
	rb.Build = func(m *Mesh, params json.RawMessage) (*Recovery, error) {
		rec, err := build(m, params)
		if err != nil {
			return nil, err
		}
		for i := range rec.Steps {
			if apply := rec.Steps[i].Apply; apply != nil {
				rec.Steps[i].Apply = func(ctx context.Context, key string, o Observation) error {
					b.boundary()
					err := apply(ctx, key, o)
					b.boundary()
					return err
				}
			}
		}
		return rec, nil
	}
	return rb
}

// crash does what it was ordered to and says how it ended, if it lives.
func crash() error {
	var order crashOrder
	if err := json.Unmarshal([]byte(os.Getenv(childCrash)), &order); err != nil {
		return err
	}
	b := &bomb{}
	b.at.Store(int64(order.KillAt))
	e, err := order.engine(b)
	if err != nil {
		return err
	}
	defer e.Mesh.Witness.Close()
	defer e.Mesh.Controller.Close()
	result, err := order.carryOut(e)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(crashReport{int(b.passed.Load()), result.Outcome, result.InDoubt, result.Reason})
}

func (o crashOrder) carryOut(e *Engine) (Result, error) {
	if o.Run != "" {
		return e.Resume(context.Background(), o.Run, false)
	}
	rb, _ := e.find(o.Runbook)
	rec, err := rb.Build(e.Mesh, o.Params)
	if err != nil {
		return Result{}, err
	}
	return e.Run(context.Background(), Request{Recovery: rec})
}

func (o crashOrder) engine(b *bomb) (*Engine, error) {
	w, err := witnessclient.New(witnessclient.Options{
		URL: o.Witness, APIKey: secret.New(o.WitnessKey), Timeout: patience,
		Patience: time.Millisecond, // the gate has seen to it that nothing is under way
	})
	if err != nil {
		return nil, err
	}
	c, err := control.New(control.Options{URL: o.Controller, AdminKey: secret.New(o.AdminKey)})
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		Name: "test", Loopback: true, Agent: mesh.LabTiming(), Thresholds: testThresholds(), Timings: testTimings(), Witness: w, Controller: c,
		SignalingStats: c, EnvFile: o.EnvFile, SignalingURLs: []string{o.Signaling}, RelayOnly: true,
		TURN: probes.Credentials{Username: o.Username, Password: secret.New(o.Password)},
	}
	m.Timings.Monitor, m.Timings.StepDeadline = 300*time.Millisecond, 20*time.Second
	known := append(All(), Runbook{Name: switchboardName, Scenario: "A", Build: buildSwitchboard(o.Effects)})
	for i := range known {
		known[i] = bombed(known[i], b)
	}
	return &Engine{
		StateDir: o.StateDir, Mesh: m, known: known, disk: witnessclient.Disk{Wrap: func(f witnessclient.File) witnessclient.File { return bombedFile{f, b} }},
		Stamp: witnessclient.Stamp{Operator: "ann@bastion", Host: "bastion"},
	}, nil
}

const switchboardName = "switchboard"

// buildSwitchboard is a runbook of every kind of step, whose effects are
// switches of a server that does not know a repetition.
func buildSwitchboard(server string) func(*Mesh, json.RawMessage) (*Recovery, error) {
	return func(*Mesh, json.RawMessage) (*Recovery, error) {
		rec := fakeRecovery(
			switchStep(server, "one", Idempotent), switchStep(server, "two", Once), switchStep(server, "three", Idempotent),
			readOnly("check", Observation{Met: true, Summary: "all on"}, nil),
		)
		rec.Runbook = switchboardName
		return rec, nil
	}
}

func switchStep(server, id string, effect Effect) Step {
	return Step{
		ID: id, Title: "switch on " + id, Effect: effect, Timeout: patience,
		Observe: func(ctx context.Context) (Observation, error) {
			state, err := call(ctx, http.MethodGet, server+"/"+id, "")
			return Observation{Met: state == "on", Summary: id + " is " + state, Match: id, Before: json.RawMessage(`"off"`)}, err
		},
		Apply: func(ctx context.Context, key string, _ Observation) error {
			_, err := call(ctx, http.MethodPost, server+"/"+id, key)
			return err
		},
	}
}

func call(ctx context.Context, method, url, key string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(""))
	if err != nil {
		return "", err
	}
	request.Close = true
	request.Header.Set("Idempotency-Key", key)
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if reply.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("status %d", reply.StatusCode))
	}
	return string(body), err
}
