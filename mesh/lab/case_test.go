package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/infrafabric/meshctl/mesh"
	"github.com/infrafabric/meshctl/witnessclient"
)

// Tests named TestCase... break a mesh in the ways that are known from the
// field, by their numbers in docs/agent.md, and print what they measured:
//
//	go test -count 1 -v -run TestCase ./mesh/... | grep 'case '
//
// No time decides a test; that a fault is found and recovered from does.

// none stands for a time that a case does not have.
const none = time.Duration(-1)

// report prints the measured times of a case beside those to be expected.
func report(t *testing.T, number int, fault string, detected, recovered time.Duration, expected string) {
	t.Helper()
	t.Logf("case %d, %s: detected %s, recovered %s (expected %s)", number, fault, seconds(detected), seconds(recovered), expected)
}

func seconds(d time.Duration) string {
	if d == none {
		return "-"
	}
	return fmt.Sprintf("%.3f s", d.Seconds())
}

// recorder keeps the agents' events with their times.
type recorder struct {
	mu     sync.Mutex
	events []witnessclient.Event
}

// on has a lab's agents tell the recorder too.
func (r *recorder) on(edit func(*mesh.AgentOptions)) func(*mesh.AgentOptions) {
	return func(o *mesh.AgentOptions) {
		tell := o.Emit
		o.Emit = func(e witnessclient.Event) {
			tell(e)
			r.add(e)
		}
		if edit != nil {
			edit(o)
		}
	}
}

func (r *recorder) add(e witnessclient.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

type match func(witnessclient.Event) bool

// says matches events with this in their metadata.
func says(key, part string) match {
	return func(e witnessclient.Event) bool { return strings.Contains(fmt.Sprint(e.Metadata[key]), part) }
}

func of(agent string) match {
	return func(e witnessclient.Event) bool { return e.AgentID == agent }
}

// all matches what every one of them does.
func all(of ...match) match {
	return func(e witnessclient.Event) bool {
		for _, m := range of {
			if !m(e) {
				return false
			}
		}
		return true
	}
}

// after are the events of one name since a time that match.
func (r *recorder) after(since time.Time, name string, of ...match) []witnessclient.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []witnessclient.Event
	for _, e := range r.events {
		if e.Name == name && !e.Timestamp.Before(since) && all(of...)(e) {
			found = append(found, e)
		}
	}
	return found
}

// detected waits for an event and gives the time until it.
func (r *recorder) detected(t *testing.T, since time.Time, name string, of ...match) time.Duration {
	t.Helper()
	var first time.Time
	eventually(t, name, func() error {
		found := r.after(since, name, of...)
		if len(found) == 0 {
			return fmt.Errorf("no such event; there are %v", r.after(since, name))
		}
		first = found[0].Timestamp
		return nil
	})
	return first.Sub(since)
}

// byAll waits until every agent has such an event and gives the time until
// the last one had its first.
func (r *recorder) byAll(t *testing.T, l *Lab, since time.Time, name string, matches ...match) (last time.Duration) {
	t.Helper()
	for _, id := range l.Agents {
		last = max(last, r.detected(t, since, name, append([]match{of(id)}, matches...)...))
	}
	return last
}

// back is the time until messages passed again on the direction that had to
// wait longest: the end of its longest silence since then.
func (l *Lab) back(t testing.TB, since time.Time) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := l.Steady(ctx, 0); err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for _, o := range l.Outages(since) {
		if o.FirstAfter.After(last) {
			last = o.FirstAfter
		}
	}
	return max(0, last.Sub(since))
}

// created are the connections that the links have; without: none of an agent.
func created(l *Lab, without ...string) string {
	var all strings.Builder
	for _, link := range l.Links() {
		if len(without) == 0 || link.Local != without[0] && link.Peer != without[0] {
			fmt.Fprintln(&all, link.ID, link.CreatedAt)
		}
	}
	return all.String()
}

// counted is what one direction has sent and received.
func (l *Lab) counted(from, to string) DeliveryCount {
	l.fleet.traffic.mu.Lock()
	defer l.fleet.traffic.mu.Unlock()
	return l.fleet.traffic.pairs[direction{from, to}].count
}

// flows waits for a time and until that many more messages have arrived on
// every direction.
func (l *Lab) flows(t *testing.T, d time.Duration, messages int) {
	t.Helper()
	start, before := time.Now(), map[direction]int{}
	for _, way := range l.fleet.traffic.order {
		before[way] = l.counted(way.from, way.to).Received
	}
	eventually(t, "messages on every direction", func() error {
		for way, n := range before {
			if more := l.counted(way.from, way.to).Received - n; more < messages {
				return fmt.Errorf("%s to %s: %d messages", way.from, way.to, more)
			}
		}
		if time.Since(start) < d {
			return errors.New("the time is not over")
		}
		return nil
	})
}

// intact: what was sent arrived once, in order and whole.
func intact(t *testing.T, l *Lab) {
	t.Helper()
	eventually(t, "everything sent arrives", func() error {
		if c := l.Delivery(); c.Lost+c.Duplicated+c.Reordered+c.Corrupt > 0 {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

// patient keeps a busy machine from breaking links, so that a test can tell
// that nothing touched them.
func patient(o *mesh.AgentOptions) {
	o.Timing.Disconnected, o.Timing.Failed = 15*time.Second, 30*time.Second
}

// unhurried is for moves that a busy machine shall not send elsewhere.
func unhurried(o *mesh.AgentOptions) {
	patient(o)
	o.Timing.Connect = 15 * time.Second
}

func patientLab(r *recorder) Options {
	return Options{Agents: 3, Check: allocates, Agent: r.on(patient)}
}
