package witnessclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What docs/journal.md tells strangers is what we do.
func TestPublishedVector(t *testing.T) {
	var vector struct {
		Lines, SHA256 []string
		Head          string
		Events        int
		Posts         []struct {
			Key  string `json:"idempotency_key"`
			Body json.RawMessage
		}
		Damaged []struct {
			Name  string
			Lines []string
			Line  int `json:"refused_at"`
		}
		Unanchored struct{ Lines []string }
	}
	if err := json.Unmarshal(readFile(t, filepath.Join("..", "docs", "vectors", "journal-chain.json")), &vector); err != nil {
		t.Fatal(err)
	}
	file := func(lines []string) []byte { return []byte(strings.Join(lines, "\n") + "\n") }
	c, err := parse(file(vector.Lines))
	if err != nil || c.Head != vector.Head || c.Events != vector.Events || c.Lines != len(vector.SHA256) || c.Head != vector.SHA256[c.Lines-1] {
		t.Fatalf("%d lines, %d events, head %s, %v", c.Lines, c.Events, c.Head, err)
	}
	if _, finished := c.Finished(); !finished {
		t.Error("not finished")
	}
	posts := 0
	for _, r := range c.Records {
		if r.Hash != vector.SHA256[r.Seq-1] {
			t.Errorf("hash of line %d: %s", r.Seq, r.Hash)
		}
		if !r.IsEvent() {
			continue
		}
		body, err := posted(r)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		if err := errors.Join(json.Unmarshal(vector.Posts[posts].Body, &want), json.Unmarshal(body, &got)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || vector.Posts[posts].Key != fmt.Sprintf("%s/%d", c.Stamp.Run, r.Seq) {
			t.Errorf("post of line %d as %s:\n%s", r.Seq, vector.Posts[posts].Key, diff)
		}
		posts++
	}
	if posts != len(vector.Posts) || len(vector.Damaged) == 0 {
		t.Errorf("%d posts, %d damaged copies", posts, len(vector.Damaged))
	}
	for _, d := range vector.Damaged {
		var damage *DamageError
		if _, err := parse(file(d.Lines)); !errors.As(err, &damage) || damage.Line != d.Line {
			t.Errorf("%s: %v, want line %d", d.Name, err, d.Line)
		}
	}
	if c, err := parse(file(vector.Unanchored.Lines)); err != nil {
		t.Error(err)
	} else if _, finished := c.Finished(); finished {
		t.Error("the cut one counts as finished")
	}
}
