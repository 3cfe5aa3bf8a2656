package targets

import "bytes"

// assignment is where one value of a KEY=value line stands, quotes outside.
// One whose text is not its value to a shell is odd: it spans the whole rest of
// the line, so that nobody takes a part of it for the value.
type assignment struct {
	start, end int
	line       int
	odd        bool
}

// assignments finds every assignment of key, in file order, as a shell that
// sources the file sees them: indented or exported ones too, comments not.
func (f EnvFile) assignments(key string) []assignment {
	var found []assignment
	offset, number := 0, 0
	for line := range bytes.Lines(f.data) {
		number++
		if at, appends := valueOffset(line, key); at >= 0 {
			a := valueSpan(bytes.TrimRight(line, "\r\n"), at, appends)
			a.start, a.end, a.line = a.start+offset, a.end+offset, number
			found = append(found, a)
		}
		offset += len(line)
	}
	return found
}

// valueOffset is the index behind "KEY=", or -1 when the line assigns something
// else. In "KEY+=", which appends, it is that of the plus sign.
func valueOffset(line []byte, key string) (at int, appends bool) {
	rest := bytes.TrimLeft(line, " \t")
	if after, ok := bytes.CutPrefix(rest, []byte("export")); ok && len(after) > 0 && isBlank(after[0]) {
		rest = bytes.TrimLeft(after, " \t")
	}
	rest, ok := bytes.CutPrefix(rest, []byte(key))
	switch {
	case ok && bytes.HasPrefix(rest, []byte("=")):
		return len(line) - len(rest) + 1, false
	case ok && bytes.HasPrefix(rest, []byte("+=")):
		return len(line) - len(rest), true
	}
	return -1, false
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' }

// valueSpan finds the end of the value that begins at index at. Quotes that
// open it are left outside, so that an edit keeps them.
func valueSpan(line []byte, at int, appends bool) assignment {
	whole := assignment{start: at, end: len(line), odd: true}
	if appends {
		return whole
	}
	if at < len(line) && (line[at] == '"' || line[at] == '\'') {
		end := bytes.IndexByte(line[at+1:], line[at])
		if end < 0 {
			return whole
		}
		if behind := line[at+1+end+1:]; len(behind) > 0 && !isBlank(behind[0]) && behind[0] != ';' {
			return whole
		}
		return assignment{start: at + 1, end: at + 1 + end}
	}
	end := bytes.IndexAny(line[at:], " \t;\"'")
	switch {
	case end < 0:
		return assignment{start: at, end: len(line)}
	case line[at+end] == '"' || line[at+end] == '\'':
		return whole
	}
	return assignment{start: at, end: at + end}
}
