package report

import "time"

// The measures of the timeline, in SVG units.
const (
	labels    = 190.0
	plotWidth = 720.0
	rowHeight = 24.0
	top       = 44.0
	maxRows   = 200 // a hostile journal does not make an endless picture
)

// timeline draws a bar for every step, when the mesh had recovered, and the
// objective; one far beyond the end of the run is said in words.
func (r Report) timeline(w *writer) {
	total := max(r.offset(r.Ended), time.Millisecond)
	far := r.Objective > 3*total
	if r.Objective > total && !far {
		total = r.Objective
	}
	total += total / 20
	x := func(d time.Duration) float64 { return labels + plotWidth*min(float64(d)/float64(total), 1) }
	steps := r.Steps[:min(len(r.Steps), maxRows)]
	height := top + rowHeight*float64(len(steps)) + 30
	w.add(`<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="Timeline of the run">`+"\n", labels+plotWidth+10, height)
	r.grid(w, total, x, height)
	last := r.Started
	for i, s := range steps {
		last = s.bar(w, r, i, last, x)
	}
	if r.Recovered > 0 {
		upright(w, "recovered", x(r.Recovered), 30, height, "recovered "+rounded(r.Recovered).String())
	}
	switch {
	case far:
		w.add(`<text x="%.1f" y="14" text-anchor="end">objective %s, beyond the right edge</text>`+"\n", labels+plotWidth, rounded(r.Objective))
	case r.Objective > 0:
		upright(w, "objective", x(r.Objective), 14, height, "objective "+rounded(r.Objective).String())
	}
	w.WriteString("</svg>\n")
}

// bar draws a step from its intent, or from the end of the step before, to its
// end, which it returns.
func (s Step) bar(w *writer, r Report, row int, last time.Time, x func(time.Duration) float64) time.Time {
	y := top + rowHeight*float64(row)
	w.add(`<text x="0" y="%.1f">%s</text>`+"\n", y+15, shortened(s.ID))
	begun, ended := s.Begun, s.Ended
	if begun.IsZero() {
		begun = last
	}
	if ended.IsZero() {
		if s.Begun.IsZero() {
			return last // not reached
		}
		ended = r.Ended
	}
	from, to := x(r.offset(begun)), x(r.offset(ended))
	w.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="14" rx="2"><title>%s: %s, %s</title></rect>`+"\n",
		s.Verdict, from, y+4, max(to-from, 2), s.ID, s.Verdict, rounded(ended.Sub(begun)))
	return ended
}

func (r Report) grid(w *writer, total time.Duration, x func(time.Duration) float64, height float64) {
	for i := range 5 {
		at := total * time.Duration(i) / 5
		w.add(`<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", x(at), top, x(at), height-20)
		w.add(`<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x(at), height-6, rounded(at))
	}
}

func upright(w *writer, kind string, x, y, height float64, text string) {
	w.add(`<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", kind, x, y+4, x, height-20)
	w.add(`<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", min(max(x, labels+40), labels+plotWidth-50), y, text)
}

// shortened keeps a label within its column.
func shortened(text string) string {
	if runes := []rune(text); len(runes) > 26 {
		return string(runes[:25]) + "…"
	}
	return text
}
