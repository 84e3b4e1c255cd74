package sqlhttp

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// parameter turns a JSON value into a parameter's text: a text is itself, an
// array is a Postgres array, an object is its JSON. nil is NULL.
func parameter(v jsontext.Value) ([]byte, error) {
	switch v.Kind() {
	case 'n':
		return nil, nil
	case '"':
		return unquoted(v)
	case '[':
		return array(v)
	default: // a number, true, false, or an object
		return plainText(v)
	}
}

var errNUL = errors.New("it has a NUL byte, which Postgres cannot hold")

func unquoted(v jsontext.Value) ([]byte, error) {
	text, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return nil, err
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, errNUL
	}
	return orEmpty(text), nil
}

// plainText is a value as it was written.
func plainText(v jsontext.Value) ([]byte, error) { return bytes.TrimSpace(v), nil }

// orEmpty keeps an empty text apart from NULL.
func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// array writes a JSON array as a Postgres array: of arrays, numbers, truth
// values, NULLs, and of texts and objects in quotes.
func array(v jsontext.Value) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewReader(v))
	var out []byte
	first := true
	comma := func() {
		if !first {
			out = append(out, ',')
		}
		first = false
	}
	for d.StackDepth() > 0 || len(out) == 0 {
		switch d.PeekKind() {
		case '[':
			comma()
			out, first = append(out, '{'), true
			if _, err := d.ReadToken(); err != nil {
				return nil, err
			}
			continue
		case ']':
			out, first = append(out, '}'), false
			if _, err := d.ReadToken(); err != nil {
				return nil, err
			}
			continue
		}
		element, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		comma()
		switch element.Kind() {
		case 'n':
			out = append(out, "NULL"...)
		case '"', '{':
			text := []byte(element)
			if element.Kind() == '"' {
				if text, err = unquoted(element); err != nil {
					return nil, err
				}
			}
			out = append(out, '"')
			for _, b := range text {
				if b == '"' || b == '\\' {
					out = append(out, '\\')
				}
				out = append(out, b)
			}
			out = append(out, '"')
		default:
			out = append(out, element...)
		}
	}
	return out, nil
}
