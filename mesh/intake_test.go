package mesh

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/infrafabric/meshctl/mesh/wire"
)

func message(t *testing.T, stream string, seq int64) wire.Message {
	t.Helper()
	m, err := wire.NewMessage("a", "b", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.ConversationID, m.SequenceNum = stream, &seq
	return m
}

func TestIntakeOrdersAndDropsRepeats(t *testing.T) {
	const s, other = streamPrefix + "a-1", streamPrefix + "a-2"
	var i intake
	var got []int64
	hand := func(m wire.Message, _ time.Time) { got = append(got, *m.SequenceNum) }
	var sent []wire.Message
	for _, n := range []int64{1, 3, 2, 5} {
		m := message(t, s, n)
		sent = append(sent, m)
		i.take(m, 100, time.Now(), true, hand)
	}
	for _, m := range sent { // again, after a recovery
		i.take(m, 100, time.Now(), true, hand)
	}
	if diff := cmp.Diff([]int64{1, 2, 3}, got); diff != "" {
		t.Errorf("handed on (-want +got):\n%s", diff)
	}
	if n := len(i.acks()); n != 8 {
		t.Errorf("%d acknowledgements, want 8: the peer asks again when one was lost", n)
	}
	i.advance(wire.ExtStream{ID: s, Low: 5}, hand)
	i.take(message(t, other, 1), 100, time.Now(), true, hand) // the sender has started over
	i.advance(wire.ExtStream{ID: other, Low: 40}, hand)
	i.take(message(t, other, 40), 100, time.Now(), true, hand)
	if diff := cmp.Diff([]int64{1, 2, 3, 5, 1, 40}, got); diff != "" {
		t.Errorf("handed on (-want +got):\n%s", diff)
	}
}

// Messages of two sources with the same id are two messages.
func TestIntakeKnowsMessagesBySourceAndID(t *testing.T) {
	var i intake
	var got []string
	hand := func(m wire.Message, _ time.Time) { got = append(got, m.Source) }
	first := message(t, "a conversation", 1)
	second := first
	second.Source = "c"
	for _, m := range []wire.Message{first, second, first, second} {
		i.take(m, 100, time.Now(), true, hand)
	}
	if diff := cmp.Diff([]string{"a", "c"}, got); diff != "" {
		t.Errorf("handed on (-want +got):\n%s", diff)
	}
}

func TestIntakeIsBounded(t *testing.T) {
	const s = streamPrefix + "a-1"
	var i intake
	none := func(wire.Message, time.Time) { t.Error("handed on across a gap") }
	for n := range int64(2 * maxWaiting) {
		i.take(message(t, s, n+2), 100, time.Now(), true, none)
	}
	if len(i.held) > maxWaiting {
		t.Errorf("%d messages held, more than %d", len(i.held), maxWaiting)
	}
	handed := 0
	i.take(message(t, s, 1), 100, time.Now(), true, func(wire.Message, time.Time) { handed++ })
	if handed != maxWaiting+1 || i.bytes != 0 {
		t.Errorf("%d handed on, %d bytes held after the gap closed; want %d and 0", handed, i.bytes, maxWaiting+1)
	}
}

func TestOutboxIsBounded(t *testing.T) {
	o := outbox{stream: newStream("a")}
	add := func() error {
		_, err := o.add(nil, func(stream string, seq int64) (wire.Message, []byte, error) {
			m := message(t, stream, seq)
			return m, make([]byte, 100), nil
		})
		return err
	}
	for range maxWaiting {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(); !errors.Is(err, ErrFull) {
		t.Errorf("add = %v, want ErrFull", err)
	}
	var ids []string
	for _, w := range o.waiting[:10] {
		ids = append(ids, w.id)
	}
	o.ack(ids, time.Now())
	if p := o.position(); o.pending() != maxWaiting-10 || p.Low != 11 {
		t.Errorf("%d pending from %d, want %d from 11", o.pending(), p.Low, maxWaiting-10)
	}
}

// TestIntakeLeavesAnEndedStream: a message of a process that is gone comes
// after its successor has begun.
func TestIntakeLeavesAnEndedStream(t *testing.T) {
	const old, now = streamPrefix + "a-1", streamPrefix + "a-2"
	var i intake
	var got []string
	hand := func(m wire.Message, _ time.Time) {
		got = append(got, fmt.Sprintf("%s %d", m.ConversationID[len(streamPrefix):], *m.SequenceNum))
	}
	take := func(stream string, seq int64) { i.take(message(t, stream, seq), 100, time.Now(), true, hand) }
	take(old, 1)
	take(now, 2) // held
	take(old, 2)
	i.advance(wire.ExtStream{ID: old, Low: 3}, hand)
	take(now, 1)
	if diff := cmp.Diff([]string{"a-1 1", "a-2 1", "a-2 2"}, got); diff != "" {
		t.Errorf("handed on (-want +got):\n%s", diff)
	}
}
