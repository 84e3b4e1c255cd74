package sqlhttp

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// OIDs of the types that JSON has something of its own for, and of their arrays.
const (
	oidBool, oidInt2, oidInt4, oidFloat4, oidFloat8, oidJSON, oidJSONB = 16, 21, 23, 700, 701, 114, 3802
)

// elements maps array types to the types of their elements; 0: JSON strings.
var elements = map[uint32]uint32{
	1000: oidBool, 1005: oidInt2, 1007: oidInt4, 1021: oidFloat4, 1022: oidFloat8, 199: oidJSON, 3807: oidJSONB,
	1001: 0, 1002: 0, 1009: 0, 1014: 0, 1015: 0, 1016: 0, 1028: 0, 1041: 0, 1115: 0, 1182: 0, 1183: 0, 1185: 0, 1187: 0, 1231: 0, 2951: 0,
}

// typed writes a value as JSON has it: truth values, small integers, finite
// floats and JSON as they are, known arrays as arrays, all else as text.
func typed(out []byte, oid uint32, text []byte) []byte {
	switch oid {
	case oidBool:
		if len(text) == 1 && text[0] == 't' {
			return append(out, "true"...)
		}
		return append(out, "false"...)
	case oidInt2, oidInt4:
		return append(out, text...)
	case oidFloat4, oidFloat8:
		if jsontext.Value(text).IsValid() { // not NaN, Infinity
			return append(out, text...)
		}
	case oidJSON, oidJSONB:
		if jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true)) {
			return append(out, text...)
		}
	default:
		if element, ok := elements[oid]; ok {
			if list, ok := appendArray(out, element, text); ok {
				return list
			}
		}
	}
	return quote(out, text)
}

// appendArray writes a Postgres array as a JSON array; false: it is not one as expected.
func appendArray(out []byte, element uint32, text []byte) ([]byte, bool) {
	if len(text) > 0 && text[0] == '[' { // bounds, as in [0:1]={a,b}
		_, list, ok := bytes.Cut(text, []byte("="))
		if !ok {
			return nil, false
		}
		text = list
	}
	depth := 0
	for i := 0; i < len(text); {
		switch c := text[i]; c {
		case '{':
			depth++
			out = append(out, '[')
			i++
		case '}':
			depth--
			out = append(out, ']')
			i++
			if depth == 0 {
				return out, i == len(text)
			}
		case ',':
			out = append(out, ',')
			i++
		case '"':
			var value []byte
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
				if i < len(text) {
					value = append(value, text[i])
				}
			}
			i++
			out = typed(out, element, value)
		default:
			end := bytes.IndexAny(text[i:], ",}")
			if end <= 0 {
				return nil, false
			}
			if value := text[i : i+end]; string(value) == "NULL" {
				out = append(out, "null"...)
			} else {
				out = typed(out, element, value)
			}
			i += end
		}
	}
	return nil, false
}
