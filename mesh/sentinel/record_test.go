package sentinel

import (
	"fmt"
	"os"
	"testing"

	"github.com/infrafabric/meshctl/mesh/lab"
	"github.com/infrafabric/meshctl/witnessclient"
)

// A witness that is down for weeks costs disk space, and neither memory nor
// open files without end. Everything is delivered when it is back.
func TestLongOutageOfTheWitness(t *testing.T) {
	l := startLab(t, 1)
	if err := l.Inject(t.Context(), lab.Fault{Name: "witness-down"}); err != nil {
		t.Fatal(err)
	}
	o := options(t, l)
	o.Log = discard()
	r, err := newRecorder(o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	const events, full = 100, 5
	r.full = full
	for range events {
		if err := r.write(witnessclient.Event{Name: "agent_registered"}); err != nil {
			t.Fatal(err)
		}
	}
	r.settle()
	if len(r.older) > openOlder || len(r.shelf) < events/full-openOlder {
		t.Errorf("%d journals are open and %d wait", len(r.older), len(r.shelf))
	}
	list, err := witnessclient.List(o.Journals)
	if err != nil {
		t.Fatal(err)
	}
	waiting := 0
	for _, j := range list {
		waiting += j.Unacked
	}
	if n := r.left.Load(); int(n) != waiting || n < events {
		t.Errorf("%d events are said to wait, %d do", n, waiting)
	}
	if err := l.Heal(t.Context(), lab.Fault{Name: "witness-down"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything is delivered", func() error {
		if r.settle(); r.left.Load() > 0 {
			return fmt.Errorf("%d events wait", r.left.Load())
		}
		return nil
	})
	if files, err := os.ReadDir(o.Journals); err != nil || len(files) > keptJournals+1 {
		t.Errorf("%d files are kept, %v", len(files), err)
	}
}
