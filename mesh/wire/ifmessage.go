package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
	"github.com/tidwall/gjson"
)

const (
	// Version is the IFMessage version spoken here.
	Version = "2.1"

	// MaxMessage is the largest message in bytes, the usual limit of a data
	// channel.
	MaxMessage = 256 << 10

	maxText      = 1024 // bytes of an id, name or time stamp
	maxCitations = 256
)

// Message is an IFMessage, the JSON text that agents exchange.
type Message struct {
	ID             string          `json:"id"`
	Timestamp      string          `json:"timestamp"` // RFC 3339 with milliseconds, Z
	Level          int             `json:"level"`
	Source         string          `json:"source"`
	Destination    string          `json:"destination"`
	Version        string          `json:"version"`
	Payload        json.RawMessage `json:"payload"` // an object
	TraceID        string          `json:"traceId,omitempty"`
	Performative   string          `json:"performative,omitempty"`
	ConversationID string          `json:"conversation_id,omitempty"`
	SequenceNum    *int64          `json:"sequence_num,omitempty"`
	CitationIDs    []string        `json:"citation_ids,omitempty"`
	Signature      *Signature      `json:"signature,omitempty"`
}

// NewMessage makes an unsigned message of now with a new id. The payload must
// encode as a JSON object; nil is an empty one.
func NewMessage(source, destination string, level int, payload any) (Message, error) {
	now := time.Now().UTC()
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return Message{}, fmt.Errorf("new message id: %w", err)
	}
	if payload == nil {
		payload = struct{}{}
	}
	raw, err := marshal(payload)
	if err != nil {
		return Message{}, fmt.Errorf("new message payload: %w", err)
	}
	if raw[0] != '{' {
		return Message{}, errors.New("new message payload: not a JSON object")
	}
	return Message{
		ID: id.String(), Timestamp: now.Format("2006-01-02T15:04:05.000Z07:00"), Level: level,
		Source: source, Destination: destination, Version: Version, Payload: raw,
	}, nil
}

// Encode writes the message as it goes over the data channel.
func (m Message) Encode() ([]byte, error) {
	if len(m.Payload) == 0 {
		m.Payload = json.RawMessage("{}")
	}
	data, err := marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode message %s: %w", m.ID, err)
	}
	if len(data) > MaxMessage {
		return nil, fmt.Errorf("encode message %s: %d bytes, more than %d", m.ID, len(data), MaxMessage)
	}
	return data, nil
}

// marshal keeps <, > and & readable, as the other implementations do.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// DecodeMessage reads a message and checks its required fields; the signature
// is checked by Verify, on the same bytes. Names count exactly and the last of
// two equal ones holds, as in the signed form: encoding/json, which also takes
// "Source" for "source", would let an unsigned field replace a signed one.
// An optional field that is null counts as absent.
func DecodeMessage(data []byte) (Message, error) {
	root, err := parseObject(data)
	if err != nil {
		return Message{}, fmt.Errorf("message: %w", err)
	}
	d := fieldReader{fields: lastFields(root)}
	m := Message{
		ID:             d.text("id", true),
		Timestamp:      d.text("timestamp", true),
		Level:          int(d.integer("level", true)),
		Source:         d.text("source", true),
		Destination:    d.text("destination", true),
		Version:        d.text("version", true),
		Payload:        d.object("payload"),
		TraceID:        d.text("traceId", false),
		Performative:   d.text("performative", false),
		ConversationID: d.text("conversation_id", false),
		CitationIDs:    d.texts("citation_ids", maxCitations),
		Signature:      d.signature("signature"),
	}
	if d.has("sequence_num") {
		n := d.integer("sequence_num", true)
		m.SequenceNum = &n
	}
	if d.err == nil && m.Version != Version {
		d.fail("version", "is %q, not %q", m.Version, Version)
	}
	if _, err := time.Parse(time.RFC3339, m.Timestamp); d.err == nil && err != nil {
		d.fail("timestamp", "is not an RFC 3339 time")
	}
	if d.err != nil {
		return Message{}, fmt.Errorf("message: %w", d.err)
	}
	return m, nil
}

// parseObject checks the whole text, so that the fields can be read without
// further doubt.
func parseObject(data []byte) (gjson.Result, error) {
	switch {
	case len(data) > MaxMessage:
		return gjson.Result{}, fmt.Errorf("%d bytes, more than %d", len(data), MaxMessage)
	case !utf8.Valid(data):
		return gjson.Result{}, errors.New("not UTF-8")
	case !json.Valid(data): // unlike gjson.Valid it bounds the nesting
		return gjson.Result{}, errors.New("not JSON, or cut short")
	}
	root := gjson.ParseBytes(data)
	if !root.IsObject() {
		return gjson.Result{}, errors.New("not a JSON object")
	}
	return root, nil
}

// lastFields indexes an object by the decoded names of its keys.
func lastFields(object gjson.Result) map[string]gjson.Result {
	fields := map[string]gjson.Result{}
	object.ForEach(func(key, value gjson.Result) bool {
		fields[key.Str] = value
		return true
	})
	return fields
}

// fieldReader reads fields of an object and keeps the first error.
type fieldReader struct {
	fields map[string]gjson.Result
	err    error
}

func (d *fieldReader) fail(name, format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%s %s", name, fmt.Sprintf(format, args...))
	}
}

func (d *fieldReader) has(name string) bool {
	v, found := d.fields[name]
	return found && v.Type != gjson.Null
}

func (d *fieldReader) text(name string, required bool) string {
	if !d.has(name) && !required {
		return ""
	}
	v := d.fields[name]
	if v.Type != gjson.String {
		d.fail(name, "is missing or not a string")
		return ""
	}
	s := decodeText(v.Raw)
	if s == "" && required || len(s) > maxText {
		d.fail(name, "is empty or longer than %d bytes", maxText)
	}
	if !utf8.ValidString(s) {
		d.fail(name, "has half a surrogate pair in it")
	}
	return s
}

// integer accepts every spelling of an integer that JavaScript writes or
// reads, such as 1.0 and 1e3.
func (d *fieldReader) integer(name string, required bool) int64 {
	if !d.has(name) && !required {
		return 0
	}
	v := d.fields[name]
	if v.Type != gjson.Number {
		d.fail(name, "is missing or not a number")
		return 0
	}
	if n, err := strconv.ParseInt(v.Raw, 10, 64); err == nil {
		return n
	}
	const exact = 1 << 53
	if v.Num != float64(int64(v.Num)) || v.Num > exact || v.Num < -exact {
		d.fail(name, "is not an integer")
		return 0
	}
	return int64(v.Num)
}

func (d *fieldReader) object(name string) json.RawMessage {
	v := d.fields[name]
	if !v.IsObject() {
		d.fail(name, "is missing or not an object")
		return nil
	}
	return json.RawMessage(v.Raw)
}

func (d *fieldReader) texts(name string, most int) []string {
	if !d.has(name) {
		return nil
	}
	if !d.fields[name].IsArray() {
		d.fail(name, "is not an array")
		return nil
	}
	list := []string{}
	d.fields[name].ForEach(func(_, v gjson.Result) bool {
		if v.Type != gjson.String || len(v.Raw) > maxText || len(list) == most {
			d.fail(name, "has more than %d entries, or one that is not a short string", most)
			return false
		}
		list = append(list, decodeText(v.Raw))
		return true
	})
	return list
}

func (d *fieldReader) signature(name string) *Signature {
	if !d.has(name) {
		return nil
	}
	v := d.fields[name]
	if !v.IsObject() {
		d.fail(name, "is not an object")
		return nil
	}
	s := fieldReader{fields: lastFields(v)}
	signature := &Signature{
		Algorithm:      s.text("algorithm", true),
		PublicKey:      s.text("public_key", true),
		SignatureBytes: s.text("signature_bytes", true),
		SignedFields:   s.texts("signed_fields", 64),
	}
	if s.err != nil {
		d.fail(name, "%s", s.err)
	}
	return signature
}
