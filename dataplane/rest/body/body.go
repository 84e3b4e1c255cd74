// Package body reads the JSON of a write strictly: what is ambiguous between
// parsers (duplicate keys, invalid UTF-8, trailing data) or disproportionate
// (depth, exponents) never reaches Postgres. It learns the rows' keys and
// leaves the text as it is: Postgres reads the values.
//
// Import law: of this module, body imports nothing.
package body

import (
	"errors"
	"slices"
)

const (
	// MaxDepth bounds the nesting of values.
	MaxDepth = 64
	// maxExponent bounds a number's exponent either way: beyond that a few
	// characters become kilobytes of numeric. It has room for every float8.
	maxExponent = 400
)

// Error is a body that is refused; it wraps [ErrInvalid].
type Error struct {
	// Offset is the byte at which reading stopped.
	Offset int
	Reason string
	// Keys: it is JSON, but of values that are not rows.
	Keys bool
}

// ErrInvalid is wrapped by every refusal.
var ErrInvalid = errors.New("empty or invalid json")

func (e *Error) Error() string { return e.Reason }

// Unwrap gives [ErrInvalid].
func (e *Error) Unwrap() error { return ErrInvalid }

// Body is one row (an object) or several (an array of objects).
type Body struct {
	// Text is the body as it came.
	Text []byte
	// Array tells `[{…}]` from `{…}`.
	Array bool
	// Rows are the texts of the rows' objects, parts of Text.
	Rows [][]byte
	// Keys are the sorted keys of each row. Rows with the same keys share one slice.
	Keys [][]string
}

// Uniform tells whether all rows have the same keys.
func (b *Body) Uniform() bool {
	for _, keys := range b.Keys[min(1, len(b.Keys)):] {
		if !slices.Equal(keys, b.Keys[0]) {
			return false
		}
	}
	return true
}

// AllKeys are the sorted keys that occur in any row.
func (b *Body) AllKeys() []string {
	var all []string
	for i, keys := range b.Keys {
		if i == 0 || !slices.Equal(keys, b.Keys[i-1]) {
			all = append(all, keys...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Parse reads a body. Its error is an [*Error]. As with PostgREST, a value that
// is neither an object nor an array is the same as no rows.
func Parse(text []byte) (*Body, error) {
	r := reader{text: text}
	b := &Body{Text: text}
	r.space()
	mixed := false
	switch r.peek() {
	case '{':
		b.row(&r)
	case '[':
		b.Array = true
		r.list(']', func() {
			if r.peek() == '{' {
				b.row(&r)
				return
			}
			mixed = true
			r.value()
		})
	default:
		b.Array, b.Text = true, []byte("[]")
		r.value()
	}
	if err := r.ends(); err != nil {
		return nil, err
	}
	if mixed {
		return nil, &Error{Reason: keysMustMatch, Keys: true}
	}
	return b, nil
}

const keysMustMatch = "All object keys must match"

// ends refuses what follows the value that was read.
func (r *reader) ends() error {
	r.space()
	if r.err == nil && r.pos < len(r.text) {
		r.fail("there is more after the end of the JSON value")
	}
	if r.err != nil {
		return r.err
	}
	return nil
}

func (b *Body) row(r *reader) {
	start := r.pos
	keys := r.object()
	if r.err != nil {
		return
	}
	if n := len(b.Keys); n > 0 && slices.Equal(keys, b.Keys[n-1]) {
		keys = b.Keys[n-1]
	}
	b.Rows = append(b.Rows, r.text[start:r.pos])
	b.Keys = append(b.Keys, keys)
}
