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
// Those of boxes are not among them, as they are separated by semicolons.
var elements = map[uint32]uint32{1000: oidBool, 1005: oidInt2, 1007: oidInt4, 1021: oidFloat4, 1022: oidFloat8, 199: oidJSON, 3807: oidJSONB}

func init() {
	for _, oid := range []uint32{
		143, 271, 629, 651, 719, 775, 791, 1001, 1002, 1003, 1006, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015, 1016, 1017, 1018, 1019,
		1027, 1028, 1034, 1040, 1041, 1115, 1182, 1183, 1185, 1187, 1231, 1263, 1270, 1561, 1563, 2201, 2207, 2208, 2209, 2210, 2211, 2287,
		2949, 2951, 3221, 3643, 3644, 3645, 3735, 3770, 3905, 3907, 3909, 3911, 3913, 3927, 4073, 4090, 4097, 4192,
		5039, 6150, 6151, 6152, 6153, 6155, 6157,
	} {
		elements[oid] = 0
	}
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
