package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/infrafabric/meshctl/mesh/secret"
	"github.com/infrafabric/meshctl/mesh/wire"
)

// DeliveryOptions says what a delivery test does. The addresses and
// credentials are those of AgentOptions.
type DeliveryOptions struct {
	Run      string        // names the agents: meshctl-RUN-1 and so on
	Agents   int           // 2 to 16; 0: 2
	Duration time.Duration // how long messages are sent; 0: 10 s
	Interval time.Duration // between two messages of one direction; 0: 100 ms
	Size     int           // bytes of data in a message, up to MaxDeliverySize; 0: 64
	Join     time.Duration // for registering everybody; 0: as Setup
	Setup    time.Duration // for connecting everybody; 0: 30 s
	Drain    time.Duration // longest wait for late messages; 0: 3 s

	SignalingURLs []string
	TURNServers   []wire.ServerURI
	Username      string
	Password      secret.Secret
	RelayOnly     bool
	Loopback      bool
	Timing        Timing
	Check         TURNCheck
	CAFile        string

	// Progress is told about once a second how the test goes on; may be nil.
	Progress func(DeliveryProgress)

	intercept func(onMessage) onMessage // tests: between agent and count
}

type onMessage func(from, to string, m wire.Message, at time.Time)

// DeliveryProgress says where a running test is.
type DeliveryProgress struct {
	Phase          string        // registering, connecting, sending or waiting for late messages
	Left           time.Duration // of the phase, at most
	Sent, Received int
}

const (
	maxDeliveryAgents  = 16
	defaultPayloadSize = 64
	// MaxDeliverySize keeps a signed message below the 64 KiB that every WebRTC
	// stack takes.
	MaxDeliverySize = 32 << 10
)

func (o *DeliveryOptions) complete() error {
	if o.Run == "" {
		return errors.New("no run id")
	}
	if o.Agents == 0 {
		o.Agents = 2
	}
	if o.Agents < 2 || o.Agents > maxDeliveryAgents {
		return fmt.Errorf("%d agents: 2 to %d are possible", o.Agents, maxDeliveryAgents)
	}
	if o.Size == 0 {
		o.Size = defaultPayloadSize
	}
	if o.Size < 0 || o.Size > MaxDeliverySize {
		return fmt.Errorf("%d bytes a message: 1 to %d are possible", o.Size, MaxDeliverySize)
	}
	for _, f := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&o.Duration, 10 * time.Second}, {&o.Interval, 100 * time.Millisecond},
		{&o.Setup, 30 * time.Second}, {&o.Drain, 3 * time.Second},
	} {
		if *f.value < 0 {
			return errors.New("a negative duration")
		}
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	if o.Join <= 0 {
		o.Join = o.Setup
	}
	return nil
}

// delivery is one running test.
type delivery struct {
	o      DeliveryOptions
	agents []*Agent
	counts map[direction]*count

	before map[direction]probeCount // when sending began

	mu    sync.Mutex
	phase string
	ends  time.Time // of the phase
}

type direction struct{ from, to string }

// TestDelivery puts throw-away agents into a mesh, connects each with each and
// has all of them send numbered and hashed messages to all others. The agents
// link to nobody else and are gone when it returns.
//
// A pair that cannot connect is no error: it is named in the result, which is
// then not Complete. When ctx ends early, the result holds what was measured
// until then, beside the error.
func TestDelivery(ctx context.Context, o DeliveryOptions) (DeliveryResult, error) {
	if err := o.complete(); err != nil {
		return DeliveryResult{}, fmt.Errorf("delivery test: %w", err)
	}
	d := &delivery{o: o, counts: map[direction]*count{}}
	// The agents outlive ctx: their paths and what is on its way are part of
	// what was measured.
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer func() {
		cancel(nil)
		for _, a := range d.agents {
			_ = a.Close()
		}
	}()
	err := d.run(ctx, life, cancel)
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("interrupted: %w", cause)
	}
	result := d.result()
	if err != nil {
		return result, fmt.Errorf("delivery test %s: %w", o.Run, err)
	}
	return result, nil
}

// run lets the agents live as long as life, which cancel ends.
func (d *delivery) run(ctx, life context.Context, cancel context.CancelCauseFunc) error {
	d.prepare()
	defer d.report(ctx)()
	d.enter("registering", d.o.Join)
	timer := time.AfterFunc(d.o.Join, func() { cancel(fmt.Errorf("the time for registering, %s, is over", d.o.Join)) })
	waits := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	err := d.start(life)
	timer.Stop()
	waits()
	if err != nil {
		return err
	}
	d.enter("connecting", d.o.Setup)
	d.connect(ctx)
	d.enter("sending", d.o.Duration)
	sending, done := context.WithTimeout(ctx, d.o.Duration)
	d.send(sending)
	done()
	late := d.o.Drain
	if ctx.Err() != nil {
		late = min(late, time.Second)
	}
	d.enter("waiting for late messages", late)
	d.drain(life, late)
	return nil
}

// prepare makes the counts: agents read them from their first message on.
func (d *delivery) prepare() {
	for i := range d.o.Agents {
		for j := range d.o.Agents {
			if i != j {
				d.counts[direction{d.name(i), d.name(j)}] = newCount(d.o.Size)
			}
		}
	}
}

func (d *delivery) name(i int) string { return fmt.Sprintf("%s%s-%d", wire.OwnPrefix, d.o.Run, i+1) }

// start registers all agents at the same time: each may have to find out that a
// server does not answer. Without all of them there is no test.
func (d *delivery) start(ctx context.Context) error {
	agents, errs := make([]*Agent, d.o.Agents), make([]error, d.o.Agents)
	var wg sync.WaitGroup
	for i := range agents {
		wg.Go(func() { agents[i], errs[i] = StartAgent(ctx, d.agentOptions(d.name(i))) })
	}
	wg.Wait()
	d.agents = slices.DeleteFunc(agents, func(a *Agent) bool { return a == nil })
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) agentOptions(id string) AgentOptions {
	record := onMessage(func(from, to string, m wire.Message, at time.Time) {
		if c := d.counts[direction{from, to}]; c != nil {
			c.received(from, to, m, at)
		}
	})
	if d.o.intercept != nil {
		record = d.o.intercept(record)
	}
	return AgentOptions{
		ID: id, SignalingURLs: d.o.SignalingURLs, TURNServers: d.o.TURNServers,
		Username: d.o.Username, Password: d.o.Password, CAFile: d.o.CAFile,
		RelayOnly: d.o.RelayOnly, Loopback: d.o.Loopback, Timing: d.o.Timing, Check: d.o.Check,
		OnMessage: func(from string, m wire.Message, at time.Time) { record(from, id, m, at) },
	}
}

// each runs f for every direction at the same time.
func (d *delivery) each(f func(from *Agent, to string, c *count)) {
	var wg sync.WaitGroup
	for _, from := range d.agents {
		for _, to := range d.agents {
			if from != to {
				wg.Go(func() { f(from, to.ID(), d.counts[direction{from.ID(), to.ID()}]) })
			}
		}
	}
	wg.Wait()
}

func (d *delivery) connect(ctx context.Context) {
	bounded, done := context.WithTimeoutCause(ctx, d.o.Setup, fmt.Errorf("the time for setting up, %s, is over", d.o.Setup))
	defer done()
	d.each(func(from *Agent, to string, c *count) {
		err := from.awaitPeer(bounded, to)
		if err == nil || ctx.Err() == nil { // that the test ended is nothing about the pair
			c.connected(err)
		}
	})
}

// awaitPeer connects to a peer that may not be registered here yet.
func (a *Agent) awaitPeer(ctx context.Context, peer string) error {
	if err := poll(ctx, func() bool { return a.registered(peer) }); err != nil {
		return fmt.Errorf("connect %s to %s: signaling does not show the peer: %w", a.o.ID, peer, err)
	}
	return a.Connect(ctx, peer)
}

// send sends over every connected pair until ctx ends.
func (d *delivery) send(ctx context.Context) {
	defer d.probe(ctx)()
	d.each(func(from *Agent, to string, c *count) {
		if c.err != nil {
			return
		}
		ticker := time.NewTicker(d.o.Interval)
		defer ticker.Stop()
		for {
			c.send(from, to)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
}

// drain waits for messages that are still on their way.
func (d *delivery) drain(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	_ = poll(ctx, func() bool {
		for _, c := range d.counts {
			if !c.complete() {
				return false
			}
		}
		return true
	})
}

// poll returns nil when done, else why ctx ended.
func poll(ctx context.Context, done func() bool) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
	return nil
}
