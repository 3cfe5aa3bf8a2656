package witnessclient

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"
)

// HeldError says that what the witness holds of a run is not what the run has
// written: an event was changed, or one is missing.
type HeldError struct{ Run, Reason string }

func (e *HeldError) Error() string {
	return fmt.Sprintf("read run %s from the witness: %s", e.Run, e.Reason)
}

// HeldRun reads a run whose journal is elsewhere from the witness, in order. A
// *HeldError comes with what is held: the content of every event must give its
// hash, neighbouring lines must be chained, and none may be missing before the
// last. Events that were not delivered do not show. The records are marked as
// acknowledged. No records without an error: the witness does not know the run.
func HeldRun(ctx context.Context, c *Client, run string) ([]Record, error) {
	events, err := c.Query(ctx, Query{
		Match: map[string]any{"metadata.run": run}, From: heldSpan, To: formatTime(time.Now().Add(queryMargin)),
	})
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, e := range events {
		if e.Metadata["run"] == run {
			records = append(records, heldRecord(e))
		}
	}
	slices.SortStableFunc(records, func(a, b Record) int { return cmp.Compare(a.Seq, b.Seq) })
	records = slices.CompactFunc(records, func(a, b Record) bool { return a.Seq == b.Seq && a.Hash == b.Hash })
	for i, r := range records {
		if reason := heldFault(records, i); reason != "" {
			return records, &HeldError{Run: run, Reason: fmt.Sprintf("%s (line %d): %s", r.Event.Name, r.Seq, reason)}
		}
	}
	return records, nil
}

// heldSpan is how far back a run on another machine may have begun.
const heldSpan = "-30d"

// heldRecord writes the line again that the event was.
func heldRecord(e Event) Record {
	r := Record{Seq: number(e.Metadata["seq"]), At: e.Timestamp, Acked: true}
	r.Prev, _ = e.Metadata["prev"].(string)
	r.Hash, _ = e.Metadata["hash"].(string)
	e.Metadata = maps.Clone(e.Metadata)
	delete(e.Metadata, "hash")
	r.Event = e
	r.Line, _ = encode(e) // one that cannot be encoded has no hash either
	return r
}

func heldFault(records []Record, i int) string {
	r := records[i]
	sum := sha256.Sum256(r.Line)
	switch {
	case r.Hash != hex.EncodeToString(sum[:]):
		return "its content does not give its hash: it was changed"
	case number(r.Event.Metadata["events"]) != i:
		return fmt.Sprintf("says that %v events came before it, and the witness holds %d", r.Event.Metadata["events"], i)
	case i > 0 && r.Seq == records[i-1].Seq+1 && r.Prev != records[i-1].Hash:
		return "does not continue the hash chain"
	}
	return ""
}
