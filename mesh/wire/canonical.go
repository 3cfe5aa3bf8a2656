package wire

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

const maxDepth = 128 // nesting of the signed part of a message

// Canonical gives the bytes that a signature covers, from the JSON text of a
// message: what ECMAScript JSON.stringify(JSON.parse(raw), names) gives, with
// names the sorted signed fields that the message has. ECMAScript applies the
// list to nested objects too (SerializeJSONProperty, ECMA-262 section 25.5.2),
// so a key inside payload that is not one of the names is dropped: ordinary
// payload content is not covered.
func Canonical(raw []byte) ([]byte, error) {
	root, err := parseObject(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	fields := lastFields(root)
	names := slices.DeleteFunc(sortedFields(), func(name string) bool {
		_, has := fields[name]
		return !has
	})
	out, err := appendObject(nil, fields, names, 1)
	if err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	return out, nil
}

func appendValue(out []byte, v gjson.Result, names []string, depth int) ([]byte, error) {
	switch {
	case depth > maxDepth:
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	case v.IsObject():
		return appendObject(out, lastFields(v), names, depth)
	case v.IsArray():
		return appendArray(out, v, names, depth)
	case v.Type == gjson.String:
		return appendText(out, decodeText(v.Raw)), nil
	case v.Type == gjson.Number:
		return appendNumber(out, v.Raw), nil
	}
	return append(out, v.Raw...), nil // true, false, null
}

func appendObject(out []byte, fields map[string]gjson.Result, names []string, depth int) ([]byte, error) {
	out = append(out, '{')
	separator := ""
	for _, name := range names {
		v, has := fields[name]
		if !has {
			continue
		}
		out = append(out, separator...)
		out = append(appendText(out, name), ':')
		separator = ","
		var err error
		if out, err = appendValue(out, v, names, depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

func appendArray(out []byte, array gjson.Result, names []string, depth int) ([]byte, error) {
	out = append(out, '[')
	separator := ""
	var err error
	array.ForEach(func(_, v gjson.Result) bool {
		out = append(out, separator...)
		separator = ","
		out, err = appendValue(out, v, names, depth+1)
		return err == nil
	})
	return append(out, ']'), err
}

// appendNumber writes a number as Number::toString does (ECMA-262 section
// 6.1.6.1.20), and what overflows as JSON.stringify writes Infinity: null.
func appendNumber(out []byte, raw string) []byte {
	f, _ := strconv.ParseFloat(raw, 64) // well-formed; out of range gives an infinity or zero
	switch {
	case math.IsInf(f, 0):
		return append(out, "null"...)
	case f == 0: // also -0
		return append(out, '0')
	}
	if size := math.Abs(f); size >= 1e-6 && size < 1e21 {
		return strconv.AppendFloat(out, f, 'f', -1, 64)
	}
	text := strconv.FormatFloat(f, 'e', -1, 64) // two digits of exponent at least
	mantissa, exponent, _ := strings.Cut(text, "e")
	return append(out, mantissa+"e"+exponent[:1]+strings.TrimLeft(exponent[1:], "0")...)
}

// decodeText decodes a JSON string that is known to be well-formed. A lone
// surrogate, which UTF-8 has no form for, is kept as three bytes in the manner
// of UTF-8 (WTF-8), so that appendText can write it again.
func decodeText(raw string) string {
	raw = raw[1 : len(raw)-1]
	if !strings.Contains(raw, `\`) {
		return raw
	}
	out := make([]byte, 0, len(raw))
	for raw != "" {
		if raw[0] != '\\' {
			out = append(out, raw[0])
			raw = raw[1:]
			continue
		}
		if raw[1] != 'u' {
			out = append(out, unescape(raw[1]))
			raw = raw[2:]
			continue
		}
		r := escapedUnit(raw)
		raw = raw[6:]
		if pair := utf16.DecodeRune(r, escapedUnit(raw)); pair != utf8.RuneError {
			r, raw = pair, raw[6:]
		}
		out = appendRune(out, r)
	}
	return string(out)
}

func unescape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c // " \ /
}

// escapedUnit reads \uXXXX at the start of s, or gives 0.
func escapedUnit(s string) rune {
	if len(s) < 6 || s[:2] != `\u` {
		return 0
	}
	n, _ := strconv.ParseUint(s[2:6], 16, 16)
	return rune(n)
}

func appendRune(out []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(out, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
	}
	return utf8.AppendRune(out, r)
}

// appendText writes a string as QuoteJSONString does (ECMA-262 section
// 25.5.2.3): only quotes, backslashes, control characters and lone surrogates
// are escaped.
func appendText(out []byte, s string) []byte {
	const short = "btn\x00fr" // for \b (8) to \r (13)
	out = append(out, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c >= 8 && c <= 13 && c != 11:
			out = append(out, '\\', short[c-8])
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		case c == 0xED && i+2 < len(s) && s[i+1] >= 0xA0: // a surrogate: D800 to DFFF
			unit := rune(c&0x0F)<<12 | rune(s[i+1]&0x3F)<<6 | rune(s[i+2]&0x3F)
			out = fmt.Appendf(out, `\u%04x`, unit)
			i += 2
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
