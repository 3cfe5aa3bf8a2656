package lab

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const maxConditions = 64 // of one query

// query selects events of the witness.
type query struct {
	conditions []condition
	from, to   time.Time // inclusive
}

// condition is what a query wants of one field.
type condition struct {
	path []string
	// test gets the value of the field and whether it is there.
	test func(value any, found bool) bool
}

// parseQuery reads {"query":{FIELD: CONDITION...},"time_range":{"from","to"}}.
// Whatever is not understood is an error: a query that is read wrongly finds
// nothing, and nothing looks like good news.
func parseQuery(body []byte, now time.Time) (query, error) {
	var read struct {
		Query map[string]any `json:"query"`
		Range struct {
			From *string `json:"from"`
			To   *string `json:"to"`
		} `json:"time_range"`
	}
	if err := decode(body, &read, (*json.Decoder).DisallowUnknownFields); err != nil {
		return query{}, err
	}
	if read.Query == nil {
		return query{}, errors.New("query: missing")
	}
	if len(read.Query) > maxConditions {
		return query{}, fmt.Errorf("query: more than %d fields", maxConditions)
	}
	q := query{to: now}
	for field, wanted := range read.Query {
		tests, err := parseCondition(wanted)
		if err != nil {
			return query{}, fmt.Errorf("query %s: %w", strconv.Quote(field), err)
		}
		for _, test := range tests {
			q.conditions = append(q.conditions, condition{path: strings.Split(field, "."), test: test})
		}
	}
	return q, q.setRange(read.Range.From, read.Range.To, now)
}

func (q *query) setRange(from, to *string, now time.Time) (err error) {
	if from != nil {
		if q.from, err = parseTime(*from, now); err != nil {
			return fmt.Errorf("time_range from: %w", err)
		}
	}
	if to != nil {
		if q.to, err = parseTime(*to, now); err != nil {
			return fmt.Errorf("time_range to: %w", err)
		}
	}
	if q.to.Before(q.from) {
		return errors.New("time_range: to is before from")
	}
	return nil
}

var relativeTime = regexp.MustCompile(`^-([0-9]{1,5})([smhd])$`)

// parseTime reads "now", "-5m" and the like, or RFC 3339.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "now" {
		return now, nil
	}
	if parts := relativeTime.FindStringSubmatch(text); parts != nil {
		n, err := strconv.Atoi(parts[1])
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[parts[2]]
		return now.Add(-time.Duration(n) * unit), err
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("%.40q is not now, -30s, -5m, -1h, -7d or an RFC 3339 time", text)
	}
	return at, nil
}

// matches tells whether an event, decoded from JSON, is selected.
func (q query) matches(event map[string]any, at time.Time) bool {
	if at.Before(q.from) || at.After(q.to) {
		return false
	}
	for _, c := range q.conditions {
		value, found := lookup(event, c.path)
		if !c.test(value, found) {
			return false
		}
	}
	return true
}

func lookup(event map[string]any, path []string) (any, bool) {
	var value any = event
	for _, name := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = object[name]; !ok {
			return nil, false
		}
	}
	return value, true
}

type test = func(value any, found bool) bool

// parseCondition reads a plain value, or an object of operators that must all
// hold.
func parseCondition(wanted any) ([]test, error) {
	operators, ok := wanted.(map[string]any)
	if !ok {
		t, err := equals(wanted)
		return []test{t}, err
	}
	if len(operators) == 0 {
		return nil, errors.New("no operator")
	}
	var tests []test
	for name, operand := range operators {
		t, err := operator(name, operand)
		if err != nil {
			return nil, fmt.Errorf("%.40s: %w", name, err)
		}
		tests = append(tests, t)
	}
	return tests, nil
}

func operator(name string, operand any) (test, error) {
	switch name {
	case "regex":
		return matchesRegex(operand)
	case "$gt":
		return ordered(operand, func(c int) bool { return c > 0 })
	case "$gte":
		return ordered(operand, func(c int) bool { return c >= 0 })
	case "$lt":
		return ordered(operand, func(c int) bool { return c < 0 })
	case "$lte":
		return ordered(operand, func(c int) bool { return c <= 0 })
	case "$ne":
		equal, err := equals(operand)
		return func(value any, found bool) bool { return !equal(value, found) }, err
	case "$in":
		return oneOf(operand)
	}
	return nil, errors.New("unknown operator")
}

func equals(wanted any) (test, error) {
	switch wanted.(type) {
	case string, float64, bool:
		return func(value any, found bool) bool { return found && value == wanted }, nil
	}
	return nil, errors.New("not a string, number, boolean or object of operators")
}

func matchesRegex(operand any) (test, error) {
	text, ok := operand.(string)
	if !ok {
		return nil, errors.New("not a string")
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return func(value any, _ bool) bool {
		s, ok := value.(string)
		return ok && re.MatchString(s)
	}, nil
}

// ordered compares numbers with numbers and text with text; RFC 3339 times in
// UTC sort as text.
func ordered(operand any, holds func(int) bool) (test, error) {
	switch limit := operand.(type) {
	case float64:
		return func(value any, _ bool) bool {
			n, ok := value.(float64)
			return ok && holds(cmp.Compare(n, limit))
		}, nil
	case string:
		return func(value any, _ bool) bool {
			s, ok := value.(string)
			return ok && holds(cmp.Compare(s, limit))
		}, nil
	}
	return nil, errors.New("not a number or string")
}

func oneOf(operand any) (test, error) {
	list, ok := operand.([]any)
	if !ok {
		return nil, errors.New("not an array")
	}
	var tests []test
	for _, wanted := range list {
		t, err := equals(wanted)
		if err != nil {
			return nil, err
		}
		tests = append(tests, t)
	}
	return func(value any, found bool) bool {
		for _, t := range tests {
			if t(value, found) {
				return true
			}
		}
		return false
	}, nil
}
