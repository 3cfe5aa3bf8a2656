package mesh

import "time"

// quota bounds how often a peer can have us do something.
type quota struct {
	since time.Time // of the span
	used  int       // in it
}

// take tells whether it may be done once more, at most so often in a span.
func (q *quota) take(now time.Time, most int, span time.Duration) bool {
	if now.Sub(q.since) >= span {
		q.since, q.used = now, 0
	}
	if q.used >= most {
		return false
	}
	q.used++
	return true
}
