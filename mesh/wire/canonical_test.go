package wire

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// readJSON decodes a file of testdata.
func readJSON(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

type canonicalCase struct{ Name, Raw, Canonical string }

// The expected texts were written by Node.js; see testdata/canonical.js.
func canonicalCases(t testing.TB) []canonicalCase {
	var cases []canonicalCase
	readJSON(t, "canonical.json", &cases)
	if len(cases) < 150 {
		t.Fatalf("only %d cases", len(cases))
	}
	return cases
}

func TestCanonicalAsJavaScriptDoes(t *testing.T) {
	for _, tt := range canonicalCases(t) {
		t.Run(tt.Name, func(t *testing.T) {
			got, err := Canonical([]byte(tt.Raw))
			if err != nil {
				t.Fatalf("%s: %v", tt.Raw, err)
			}
			if string(got) != tt.Canonical {
				t.Errorf("of   %s\ngot  %s\nwant %s", tt.Raw, got, tt.Canonical)
			}
		})
	}
}

type vectorFile struct {
	Seed    string `json:"private_key_seed"`
	Vectors []struct {
		Name      string
		Message   json.RawMessage
		Canonical string `json:"canonical_json"`
		SHA256    string `json:"canonical_sha256"`
		Signature Signature
	}
}

// signedBy puts a signature into the text of a message.
func signedBy(t testing.TB, message []byte, s Signature) []byte {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(message, &fields); err != nil {
		t.Fatal(err)
	}
	raw, err := marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	fields["signature"] = raw
	signed, err := marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestVectors(t *testing.T) {
	var file vectorFile
	readJSON(t, "ifmessage-v2.1.json", &file)
	seed, err := hex.DecodeString(file.Seed)
	if err != nil || len(file.Vectors) == 0 {
		t.Fatalf("bad vectors file: %v", err)
	}
	key := ed25519.NewKeyFromSeed(seed)
	for _, tt := range file.Vectors {
		t.Run(tt.Name, func(t *testing.T) {
			canonical, err := Canonical(tt.Message)
			if err != nil {
				t.Fatal(err)
			}
			if string(canonical) != tt.Canonical {
				t.Errorf("canonical form\ngot  %s\nwant %s", canonical, tt.Canonical)
			}
			if sum := sha256.Sum256(canonical); hex.EncodeToString(sum[:]) != tt.SHA256 {
				t.Errorf("got sha256 %x, want %s", sum, tt.SHA256)
			}
			raw := signedBy(t, tt.Message, tt.Signature)
			if err := Verify(raw); err != nil {
				t.Errorf("verify: %v", err)
			}
			m, err := DecodeMessage(raw)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Sign(key); err != nil {
				t.Fatal(err)
			}
			if got, want := m.Signature.SignatureBytes, tt.Signature.SignatureBytes; got != want {
				t.Errorf("sign: got %s, want %s", got, want)
			}
		})
	}
}

func TestCanonicalRefuses(t *testing.T) {
	for _, tt := range []struct{ name, raw, want string }{
		{"empty", ``, "not JSON"},
		{"half", `{"id":1`, "not JSON"},
		{"two values", `{} {}`, "not JSON"},
		{"array", `[]`, "not a JSON object"},
		{"string", `"id"`, "not a JSON object"},
		{"invalid UTF-8", "{\"id\":\"\xff\"}", "not UTF-8"},
		{"surrogate as bytes", "{\"id\":\"\xed\xa0\x80\"}", "not UTF-8"},
		{"raw control character", "{\"id\":\"\x01\"}", "not JSON"},
		{"leading zero", `{"id":01}`, "not JSON"},
		{"deep", `{"id":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, "nested deeper than 128"},
		{"very deep", `{"id":` + strings.Repeat("[", 100_000), "not JSON"},
		{"large", `{"id":"` + strings.Repeat("x", MaxMessage) + `"}`, "more than 262144"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Canonical([]byte(tt.raw))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %s, error %v, want %q", got, err, tt.want)
			}
		})
	}
}

func FuzzCanonical(f *testing.F) {
	for _, c := range canonicalCases(f) {
		f.Add([]byte(c.Raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		once, err := Canonical(raw)
		if err != nil {
			return
		}
		if !json.Valid(once) || !utf8.Valid(once) {
			t.Fatalf("of %q: not JSON: %q", raw, once)
		}
		// The form is its own form.
		twice, err := Canonical(once)
		if err != nil || string(twice) != string(once) {
			t.Fatalf("of %q: %q, then %q, error %v", raw, once, twice, err)
		}
	})
}
