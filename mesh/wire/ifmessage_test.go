package wire

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const minimal = `{"id":"m","timestamp":"2026-01-02T03:04:05.678Z","level":2,"source":"a","destination":"b","version":"2.1","payload":{}}`

func TestDecodeMessage(t *testing.T) {
	seven := int64(7)
	full := Message{
		ID: "m", Timestamp: "2026-01-02T03:04:05.678Z", Level: -1, Source: "a<é>", Destination: "b", Version: "2.1",
		Payload: json.RawMessage(`{"n":1.50,"s":"\u00e9"}`), TraceID: "t", Performative: "inform", ConversationID: "c",
		SequenceNum: &seven, CitationIDs: []string{"x", "é"},
		Signature: &Signature{Algorithm: "ed25519", PublicKey: "00", SignatureBytes: "11", SignedFields: []string{"id"}},
	}
	data, err := full.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), `"a<é>"`) || !strings.Contains(string(data), `{"n":1.50,"s":"\u00e9"}`) {
		t.Errorf("not written as given: %s", data)
	}
	got, err := DecodeMessage(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeMessageForms(t *testing.T) {
	with := func(old, changed string) string { return strings.Replace(minimal, old, changed, 1) }
	for _, tt := range []struct {
		name, raw string
		err       string
		check     func(Message) bool
	}{
		{"minimal", minimal, "", func(m Message) bool { return m.ID == "m" && m.SequenceNum == nil && m.Signature == nil }},
		{"level 2.0", with(`"level":2`, `"level":2.0`), "", func(m Message) bool { return m.Level == 2 }},
		{"level 2e3", with(`"level":2`, `"level":2e3`), "", func(m Message) bool { return m.Level == 2000 }},
		{"optional null", with(`"level":2`, `"level":2,"performative":null,"sequence_num":null,"citation_ids":null,"signature":null`), "",
			func(m Message) bool { return m.Performative == "" && m.SequenceNum == nil && m.CitationIDs == nil }},
		{"large sequence", with(`"level":2`, `"level":2,"sequence_num":9007199254740993`), "",
			func(m Message) bool { return *m.SequenceNum == 9007199254740993 }},
		{"last duplicate", with(`"id":"m"`, `"id":"m","id":"n"`), "", func(m Message) bool { return m.ID == "n" }},
		{"names count exactly", with(`"id":"m"`, `"id":"m","ID":"n","Source":"evil"`), "",
			func(m Message) bool { return m.ID == "m" && m.Source == "a" }},
		{"version 2.0", with(`2.1`, `2.0`), `version is "2.0"`, nil},
		{"version number", with(`"2.1"`, `2.1`), "version is missing or not a string", nil},
		{"no id", with(`"id":"m",`, ``), "id is missing", nil},
		{"empty id", with(`"id":"m"`, `"id":""`), "id is empty", nil},
		{"long id", with(`"id":"m"`, `"id":"`+strings.Repeat("x", 2000)+`"`), "longer than 1024", nil},
		{"half a character", with(`"id":"m"`, `"id":"\ud800"`), "half a surrogate pair", nil},
		{"no source", with(`"source":"a",`, ``), "source is missing", nil},
		{"null destination", with(`"destination":"b"`, `"destination":null`), "destination is missing", nil},
		{"level text", with(`"level":2`, `"level":"2"`), "level is missing or not a number", nil},
		{"level 2.5", with(`"level":2`, `"level":2.5`), "level is not an integer", nil},
		{"level huge", with(`"level":2`, `"level":1e999`), "level is not an integer", nil},
		{"timestamp", with(`2026-01-02T`, `2026-01-02 `), "timestamp is not", nil},
		{"payload array", with(`{}`, `[]`), "payload is missing or not an object", nil},
		{"no payload", with(`,"payload":{}`, ``), "payload is missing", nil},
		{"citations text", with(`"level":2`, `"level":2,"citation_ids":"x"`), "citation_ids is not an array", nil},
		{"citations numbers", with(`"level":2`, `"level":2,"citation_ids":[1]`), "citation_ids has", nil},
		{"signature text", with(`"level":2`, `"level":2,"signature":"x"`), "signature is not an object", nil},
		{"signature empty", with(`"level":2`, `"level":2,"signature":{}`), "signature algorithm is missing", nil},
		{"half", minimal[:40], "not JSON", nil},
		{"large", with(`{}`, `{"x":"`+strings.Repeat("x", MaxMessage)+`"}`), "more than 262144", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := DecodeMessage([]byte(tt.raw))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !tt.check(m) {
				t.Errorf("got %+v", m)
			}
		})
	}
}

func TestNewMessage(t *testing.T) {
	one, err := NewMessage("a", "b", 1, map[string]string{"x": "<y>"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewMessage("a", "b", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if one.ID == two.ID || len(one.ID) != 26 {
		t.Errorf("got ids %q and %q", one.ID, two.ID)
	}
	if string(one.Payload) != `{"x":"<y>"}` || string(two.Payload) != `{}` {
		t.Errorf("got payloads %s and %s", one.Payload, two.Payload)
	}
	at, err := time.Parse("2006-01-02T15:04:05.000Z", one.Timestamp)
	if err != nil || time.Since(at) > time.Hour || time.Since(at) < -time.Second {
		t.Errorf("got timestamp %q, error %v", one.Timestamp, err)
	}
	for _, payload := range []any{"text", 1, []int{1}, make(chan int)} {
		if _, err := NewMessage("a", "b", 1, payload); err == nil {
			t.Errorf("payload %v was accepted", payload)
		}
	}
}

func TestEncodeRefusesLargeMessages(t *testing.T) {
	m, err := NewMessage("a", "b", 1, map[string]string{"x": strings.Repeat("x", MaxMessage)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Encode(); err == nil || !strings.Contains(err.Error(), "more than 262144") {
		t.Errorf("got error %v", err)
	}
}

// signed makes a signed message and its text.
func signed(t testing.TB) (Message, []byte) {
	t.Helper()
	m, err := DecodeMessage([]byte(strings.Replace(minimal, `{}`, `{"claim":"x","level":1}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Sign(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))); err != nil {
		t.Fatal(err)
	}
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return m, raw
}

func TestVerify(t *testing.T) {
	m, raw := signed(t)
	text := string(raw)
	last := m.Signature.SignatureBytes[126:]
	for _, tt := range []struct{ name, old, changed, want string }{
		{"as signed", "", "", ""},
		{"unsigned payload content changed", `"claim":"x"`, `"claim":"y"`, ""}, // the known weakness of the form
		{"hex in upper case", m.Signature.PublicKey, strings.ToUpper(m.Signature.PublicKey), ""},
		{"another order of signed_fields", `["id","timestamp",`, `["timestamp","id",`, ""},
		{"source changed", `"source":"a"`, `"source":"c"`, "does not match"},
		{"second source", `"source":"a"`, `"source":"a","source":"c"`, "does not match"},
		{"signed payload content changed", `{"claim":"x","level":1}`, `{"claim":"x","level":2}`, "does not match"},
		{"performative added", `"level":2`, `"level":2,"performative":null`, "does not match"},
		{"signature changed", last + `","signed_fields"`, `00","signed_fields"`, "does not match"},
		{"signature short", last + `","signed_fields"`, `","signed_fields"`, "signature_bytes is not"},
		{"signature no hex", last + `","signed_fields"`, `zz","signed_fields"`, "signature_bytes is not"},
		{"key short", m.Signature.PublicKey, "00", "public_key is not"},
		{"other algorithm", `"algorithm":"ed25519"`, `"algorithm":"none"`, `algorithm "none"`},
		{"a field less", `"id","timestamp",`, `"id",`, "signed_fields are not"},
		{"a field twice", `"id","timestamp",`, `"id","id","timestamp",`, "signed_fields are not"},
		{"another field", `"id","timestamp",`, `"id","traceId",`, "signed_fields are not"},
		{"no signature", `"signature":`, `"signed":`, "missing"},
		{"null signature", `"signature":`, `"signature":null,"x":`, "missing"},
		{"signature text", `"signature":`, `"signature":"s","x":`, "not an object"},
		{"cut short", `}}`, `}`, "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed := strings.Replace(text, tt.old, tt.changed, 1)
			if tt.old != "" && changed == text {
				t.Fatalf("%q is not in %s", tt.old, text)
			}
			err := Verify([]byte(changed))
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			var e *SignatureError
			if !errors.As(err, &e) || !strings.Contains(e.Reason, tt.want) {
				t.Errorf("got %v, want a SignatureError with %q", err, tt.want)
			}
		})
	}
}

func TestSignRefusesABadKey(t *testing.T) {
	m, _ := signed(t)
	if err := m.Sign(ed25519.PrivateKey("short")); err == nil {
		t.Error("no error")
	}
}

func FuzzDecodeMessage(f *testing.F) {
	_, raw := signed(f)
	f.Add(raw)
	f.Add([]byte(minimal))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = Verify(raw) // must not panic
		m, err := DecodeMessage(raw)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			return // escapes may make it longer than the limit
		}
		got, err := DecodeMessage(again)
		if err != nil {
			t.Fatalf("of %q: %q: %v", raw, again, err)
		}
		got.Payload, m.Payload = nil, nil // written without white space
		if diff := cmp.Diff(m, got); diff != "" {
			t.Fatalf("of %q: %s", raw, diff)
		}
	})
}
