package targets

import (
	"bytes"
	"strings"
	"testing"
)

// Whatever stands in a file: an edit that gives back every value keeps every
// byte, and one that changes values changes only them.
func FuzzEnvFileWith(f *testing.F) {
	for _, seed := range []string{
		"", "K=v", "K=\"v\" # c\r\nexport K='w'\n", "K=\nK=$x\n", "\xffK=1\nK", "K+=1\n", " K='a'b\n", "K=a;K=b\n",
	} {
		f.Add([]byte(seed), "K")
	}
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		before := bytes.Clone(data)
		file := EnvFile{Path: "f", data: data}
		values := 0
		same, err := file.With(key, func(value string) string { values++; return value })
		if !bytes.Equal(data, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			if !strings.Contains(err.Error(), "cannot be edited safely") {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(same.data, before) {
			t.Fatalf("got %q, want %q", same.data, before)
		}
		marked, err := file.With(key, func(value string) string { return value + "MARK" })
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(marked.data), len(before)+4*values; got != want {
			t.Fatalf("%d values gave %d bytes, want %d", values, got, want)
		}
		if value, ok := file.Value(key); ok != (values > 0) || (ok && !bytes.Contains(before, []byte(value))) {
			t.Fatalf("value %q, %v, with %d assignments", value, ok, values)
		}
	})
}
