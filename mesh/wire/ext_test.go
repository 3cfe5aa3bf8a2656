package wire

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExtRoundTrip(t *testing.T) {
	for _, x := range []Ext{
		{Type: ExtHeartbeat, Seq: 7, At: 1_700_000_000_000_000_000},
		{Type: ExtHeartbeat, Seq: 8, At: 2, Echo: &ExtEcho{Seq: 3, At: 1, Held: 5, Loss: 0.25}, Stream: &ExtStream{ID: "s", Low: 4}},
		{Type: ExtAck, IDs: []string{"a", "b"}},
	} {
		got, err := DecodeExt(x.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(x, got); diff != "" {
			t.Errorf("round trip (-want +got):\n%s", diff)
		}
	}
}

func TestDecodeExtRefuses(t *testing.T) {
	for _, test := range []struct{ name, frame, says string }{
		{"not JSON", "x", "invalid character"},
		{"no type", `{"seq":1}`, "no type"},
		{"no seq", `{"t":"hb","at":1}`, "no seq"},
		{"wrong type", `{"t":"hb","seq":"1"}`, "cannot unmarshal"},
		{"loss above one", `{"t":"hb","seq":1,"echo":{"seq":1,"loss":2}}`, "out of range"},
		{"stream without id", `{"t":"hb","seq":1,"stream":{"low":1}}`, "out of range"},
		{"too many ids", `{"t":"ack","ids":[` + strings.Repeat(`"a",`, maxExtIDs) + `"a"]}`, "more than 256 ids"},
		{"too long", `{"t":"` + strings.Repeat("x", maxExt) + `"}`, "bytes, more than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := DecodeExt([]byte(test.frame)); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("DecodeExt = %v, want it to say %q", err, test.says)
			}
		})
	}
}

func FuzzDecodeExt(f *testing.F) {
	f.Add([]byte(`{"t":"hb","seq":1,"at":2,"echo":{"seq":1,"at":1,"held":3}}`))
	f.Add([]byte(`{"t":"ack","ids":["a"]}`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		x, err := DecodeExt(frame)
		if err != nil {
			return
		}
		if _, err := DecodeExt(x.Encode()); err != nil && len(x.Encode()) <= maxExt {
			t.Errorf("%s does not decode again: %v", x.Encode(), err)
		}
	})
}
