package body

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// reader walks a JSON text once. The first failure sticks.
type reader struct {
	text  []byte
	pos   int
	depth int
	err   *Error
}

func (r *reader) fail(reason string) {
	if r.err == nil {
		r.err = &Error{Offset: r.pos, Reason: reason}
	}
}

const malformed = "malformed JSON"

// peek is the next byte, or 0 at the end and after a failure.
func (r *reader) peek() byte {
	if r.err != nil || r.pos >= len(r.text) {
		return 0
	}
	return r.text[r.pos]
}

func (r *reader) space() {
	for c := r.peek(); c == ' ' || c == '\n' || c == '\t' || c == '\r'; c = r.peek() {
		r.pos++
	}
}

func (r *reader) must(c byte) {
	if r.peek() != c {
		r.fail(malformed)
		return
	}
	r.pos++
}

// list reads the elements of an object or array up to its closing byte.
func (r *reader) list(closing byte, element func()) {
	if r.depth++; r.depth > MaxDepth {
		r.fail("values are nested deeper than " + strconv.Itoa(MaxDepth))
	}
	defer func() { r.depth-- }()
	r.pos++
	r.space()
	if r.peek() == closing {
		r.pos++
		return
	}
	for r.err == nil {
		r.space()
		element()
		r.space()
		if r.peek() != ',' {
			r.must(closing)
			return
		}
		r.pos++
	}
}

// object reads an object and returns its keys, sorted.
func (r *reader) object() []string {
	keys := []string{}
	r.list('}', func() {
		keys = append(keys, r.string())
		r.space()
		r.must(':')
		r.space()
		r.value()
	})
	slices.Sort(keys)
	return slices.Compact(keys) // of several of one name Postgres takes the last
}

func (r *reader) value() {
	switch c := r.peek(); {
	case c == '{':
		r.object()
	case c == '[':
		r.list(']', r.value)
	case c == '"':
		r.string()
	case c == '-' || c >= '0' && c <= '9':
		r.number()
	default:
		for _, word := range [...]string{"true", "false", "null"} {
			if bytes.HasPrefix(r.text[min(r.pos, len(r.text)):], []byte(word)) {
				r.pos += len(word)
				return
			}
		}
		r.fail(malformed)
	}
}

func (r *reader) digits() int {
	start := r.pos
	for c := r.peek(); c >= '0' && c <= '9'; c = r.peek() {
		r.pos++
	}
	if r.pos == start {
		r.fail(malformed)
	}
	return r.pos - start
}

func (r *reader) number() {
	if r.peek() == '-' {
		r.pos++
	}
	if r.peek() == '0' {
		r.pos++
	} else {
		r.digits()
	}
	if r.peek() == '.' {
		r.pos++
		r.digits()
	}
	if c := r.peek(); c != 'e' && c != 'E' {
		return
	}
	r.pos++
	if c := r.peek(); c == '+' || c == '-' {
		r.pos++
	}
	start := r.pos
	r.digits()
	if exponent, err := strconv.Atoi(string(r.text[start:r.pos])); r.err == nil && (err != nil || exponent > maxExponent) {
		r.fail("a number's exponent is beyond ±" + strconv.Itoa(maxExponent))
	}
}

// string reads a string and returns its value.
func (r *reader) string() string {
	r.must('"')
	start := r.pos
	for r.err == nil {
		switch c := r.peek(); {
		case c == '"':
			value := r.text[start:r.pos]
			r.pos++
			if !utf8.Valid(value) {
				r.fail("a string is not valid UTF-8")
			}
			return string(value)
		case c == '\\':
			return r.escaped(start)
		case c < ' ': // a control character, or the end
			r.fail(malformed)
		default:
			r.pos++
		}
	}
	return ""
}

const escapes = `"\/bfnrt`
const escaped = "\"\\/\b\f\n\r\t"

// escaped reads the rest of a string from its first escape on.
func (r *reader) escaped(start int) string {
	value := append([]byte(nil), r.text[start:r.pos]...)
	for r.err == nil {
		c := r.peek()
		switch {
		case c == '"':
			r.pos++
			if !utf8.Valid(value) {
				r.fail("a string is not valid UTF-8")
			}
			return string(value)
		case c < ' ':
			r.fail(malformed)
		case c != '\\':
			value = append(value, c)
			r.pos++
		default:
			r.pos++
			e := r.peek()
			if i := strings.IndexByte(escapes, e); e != 0 && i >= 0 {
				r.pos++
				value = append(value, escaped[i])
			} else {
				value = utf8.AppendRune(value, r.unicode())
			}
		}
	}
	return ""
}

// unicode reads \uXXXX after its backslash, and the second half of a surrogate pair.
func (r *reader) unicode() rune {
	first := r.hex()
	if first == 0 {
		r.fail("text cannot hold \\u0000")
	}
	if !utf16.IsSurrogate(first) {
		return first
	}
	r.must('\\')
	pair := utf16.DecodeRune(first, r.hex())
	if pair == utf8.RuneError {
		r.fail("a string has half of a surrogate pair")
	}
	return pair
}

func (r *reader) hex() rune {
	r.must('u')
	if r.err != nil || len(r.text)-r.pos < 4 {
		r.fail(malformed)
		return utf8.RuneError
	}
	n, err := strconv.ParseUint(string(r.text[r.pos:r.pos+4]), 16, 16)
	if err != nil {
		r.fail(malformed)
	}
	r.pos += 4
	return rune(n)
}
