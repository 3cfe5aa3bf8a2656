package witnessclient

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// Append records an event and returns when it is on the disk. The zero
// Timestamp becomes now; empty failover, incident and scenario fields come from
// the stamp. The metadata keys run, seq, prev, hash, events (how many came before
// this one), operator, operator_source, host and meshctl_version, and head in
// run_finished, are set here, whatever the caller put there. A *BrokenError is
// final.
func (j *Journal) Append(e Event) (Record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, err := j.write(j.stamped(e))
	if err != nil {
		return r, fmt.Errorf("record %s: %w", e.Name, err)
	}
	select {
	case j.appended <- struct{}{}:
	default: // the outbox is told already
	}
	return r, nil
}

func (j *Journal) stamped(e Event) Event {
	s := j.stamp
	if e.Timestamp.IsZero() {
		e.Timestamp = time.Now()
	}
	e.FailoverID = cmp.Or(e.FailoverID, s.FailoverID)
	e.IncidentID = cmp.Or(e.IncidentID, s.IncidentID)
	e.Scenario = cmp.Or(e.Scenario, s.Scenario)
	own := map[string]any{
		"run": s.Run, "seq": j.contents.Lines + 1, "prev": j.contents.Head, "hash": "", "events": j.contents.Events,
		"operator": s.Operator, "operator_source": s.OperatorSource, "host": s.Host, "meshctl_version": s.Version,
	}
	if e.Name == RunFinished {
		own["head"] = j.contents.Head
	}
	metadata := map[string]any{}
	maps.Copy(metadata, e.Metadata)
	maps.Copy(metadata, own)
	for key := range own {
		if metadata[key] == "" {
			delete(metadata, key)
		}
	}
	e.Metadata, e.Metrics = plain(metadata), plain(e.Metrics)
	return e
}

// plain gives values in the one form in which a reader of the event can write
// them again to the byte: fields of structs in the order of maps.
func plain(values map[string]any) map[string]any {
	for key, value := range values {
		switch value.(type) {
		case nil, string, bool, int, int64, float64:
			continue
		}
		raw, err := encode(value)
		if err != nil {
			continue // the event is refused when it is written
		}
		var again any
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber() // large numbers stay as they are
		if d.Decode(&again) == nil {
			values = maps.Clone(values)
			values[key] = again
		}
	}
	return values
}

// AppendNote records what the engine needs to resume or undo a run and the
// witness does not get. Data must encode as JSON. Errors as for Append.
func (j *Journal) AppendNote(kind string, data any) (Record, error) {
	raw, err := encode(data)
	if err != nil {
		return Record{}, fmt.Errorf("record note %s: %w", kind, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	r, err := j.appendEntry(entry{Journal: kindNote, Note: kind, Data: raw})
	if err != nil {
		return r, fmt.Errorf("record note %s: %w", kind, err)
	}
	return r, nil
}

// send records that an attempt to deliver the event begins. Until its
// acknowledgement is recorded, the event may have arrived.
func (j *Journal) send(seq int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.appendEntry(entry{Journal: kindSent, Line: seq}); err != nil {
		return fmt.Errorf("record the sending of line %d: %w", seq, err)
	}
	j.doubt[seq] = true
	return nil
}

// failed records that the attempt is over: the event has arrived, or will not.
func (j *Journal) failed(seq int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.appendEntry(entry{Journal: kindFailed, Line: seq}); err != nil {
		return fmt.Errorf("record the failure of line %d: %w", seq, err)
	}
	return nil
}

// Ack records that the witness holds the event; again is no error.
func (j *Journal) Ack(seq int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if i, found := j.contents.find(seq); found && j.contents.Records[i].Acked {
		return nil
	}
	if _, err := j.appendEntry(entry{Journal: kindAck, Acked: seq}); err != nil {
		return fmt.Errorf("record the acknowledgement of line %d: %w", seq, err)
	}
	delete(j.doubt, seq)
	return nil
}

func (j *Journal) appendEntry(p entry) (Record, error) {
	p.Seq, p.Prev, p.Timestamp = j.contents.Lines+1, j.contents.Head, formatTime(time.Now())
	return j.write(p)
}

// encodeLine spares an event a second pass over its own JSON.
func encodeLine(record any) ([]byte, error) {
	if e, ok := record.(Event); ok {
		return e.MarshalJSON()
	}
	return encode(record)
}

// write adds one line in one write and syncs it. What would not be accepted
// when read is not written.
func (j *Journal) write(record any) (Record, error) {
	if j.failure != nil {
		return Record{}, j.failure
	}
	line, err := encodeLine(record)
	if err != nil {
		return Record{}, err
	}
	if len(line) > MaxLine {
		return Record{}, fmt.Errorf("%d bytes, more than the %d of a journal line", len(line), MaxLine)
	}
	p, err := j.contents.check(line)
	if err != nil {
		return Record{}, err
	}
	if j.contents.size+int64(len(line)) >= MaxJournal {
		j.failure = &BrokenError{Path: j.path, Err: fmt.Errorf("it would be longer than %d bytes", MaxJournal)}
		return Record{}, j.failure
	}
	_, err = j.file.Write(append(line, '\n'))
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.failure = &BrokenError{Path: j.path, Err: err}
		return Record{}, j.failure
	}
	return j.contents.take(p, line), nil
}
