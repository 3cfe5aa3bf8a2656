package control

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"github.com/infrafabric/meshctl/mesh/httpapi"
)

const (
	maxText    = 1024    // bytes of a name, address or fingerprint
	maxCount   = 1 << 30 // agents
	maxCounter = 1 << 53 // the last integer that JSON writers keep exact
)

// decoder reads checked values and keeps the first error, with the path of the
// value: connections[3].rtt_ms. The path is put together only then.
type decoder struct {
	err   error
	list  string // that is being read; "" = none
	index int    // of its entry
}

// tooLargeError is a list beyond a limit.
type tooLargeError struct{ error }

// unusable gives what is wrong with the content of a reply as its error.
func unusable(r *httpapi.Reply, err error) error {
	var tooLarge *tooLargeError
	if errors.As(err, &tooLarge) {
		return r.TooLarge("%s", err)
	}
	return r.Invalid("%s", err)
}

func (d *decoder) fail(path, format string, args ...any) {
	if d.err != nil {
		return
	}
	if d.list != "" {
		entry := d.list + "[" + strconv.Itoa(d.index) + "]"
		if path != "" {
			entry += "." + path
		}
		path = entry
	}
	d.err = fmt.Errorf("%s %s", path, fmt.Sprintf(format, args...))
}

// replyError gives the kept error as the error of a reply, or nil.
func (d *decoder) replyError(r *httpapi.Reply) error {
	if d.err == nil {
		return nil
	}
	return unusable(r, d.err)
}

// given tells whether an optional field is there; null counts as absent.
func given(v gjson.Result) bool { return v.Exists() && v.Type != gjson.Null }

func (d *decoder) is(t gjson.Type, v gjson.Result, path, want string) bool {
	if v.Exists() && v.Type == t {
		return true
	}
	if v.Exists() {
		d.fail(path, "is a JSON %s, not a %s", httpapi.TypeName(v), want)
	} else {
		d.fail(path, "is missing")
	}
	return false
}

func (d *decoder) text(v gjson.Result, path string) string {
	if !d.is(gjson.String, v, path, "string") {
		return ""
	}
	if len(v.Str) > maxText {
		d.fail(path, "is longer than %d bytes", maxText)
		return ""
	}
	return v.Str
}

// count reads an integer from 0 to most.
func (d *decoder) count(v gjson.Result, path string, most uint64) uint64 {
	if !d.is(gjson.Number, v, path, "number") {
		return 0
	}
	n, err := strconv.ParseUint(v.Raw, 10, 64)
	if err != nil && v.Num >= 0 && v.Num == math.Trunc(v.Num) && v.Num <= float64(most) {
		n, err = uint64(v.Num), nil // 3.0, 1e6
	}
	if err != nil || n > most {
		d.fail(path, "is %s, not an integer from 0 to %d", v.Raw, most)
		return 0
	}
	return n
}

// measure reads a number that is not negative.
func (d *decoder) measure(v gjson.Result, path string) float64 {
	return d.number(v, path, math.MaxFloat64)
}

// share reads a number from 0 to 1.
func (d *decoder) share(v gjson.Result, path string) float64 { return d.number(v, path, 1) }

func (d *decoder) number(v gjson.Result, path string, most float64) float64 {
	if !d.is(gjson.Number, v, path, "number") {
		return 0
	}
	if v.Num < 0 || v.Num > most {
		d.fail(path, "is %s, which is out of range", v.Raw)
		return 0
	}
	return v.Num
}

func (d *decoder) time(v gjson.Result, path string) time.Time {
	t, err := time.Parse(time.RFC3339, d.text(v, path))
	if err != nil {
		d.fail(path, "is not an RFC 3339 time")
	}
	return t
}

func (d *decoder) texts(v gjson.Result, list string) []string {
	texts := []string{}
	d.each(v, list, func(v gjson.Result) { texts = append(texts, d.text(v, "")) })
	return texts
}

// each calls read for the entries of a list until something is wrong. Within
// it, paths are those inside of the entry.
func (d *decoder) each(v gjson.Result, list string, read func(v gjson.Result)) {
	if !v.Exists() {
		d.fail(list, "is missing")
		return
	}
	if !v.IsArray() {
		d.fail(list, "is a JSON %s, not an array", httpapi.TypeName(v))
		return
	}
	if d.err != nil {
		return
	}
	i := 0
	v.ForEach(func(_, entry gjson.Result) bool {
		if i == maxEntries {
			d.err = &tooLargeError{fmt.Errorf("%s has more than %d entries", list, maxEntries)}
			return false
		}
		d.list, d.index = list, i
		read(entry)
		d.list = ""
		i++
		return d.err == nil
	})
}
