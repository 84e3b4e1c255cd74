package body

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Value reads any JSON value. One that is no row or list of rows has no keys.
// Its error is an [*Error].
func Value(text []byte) (*Body, error) {
	r := reader{text: text}
	if r.space(); r.peek() == '{' || r.peek() == '[' {
		if b, err := Parse(text); err == nil {
			return b, nil
		}
	}
	r.value()
	if err := r.ends(); err != nil {
		return nil, err
	}
	return &Body{Text: text, Array: true}, nil
}

// ParseCSV reads rows under a line of column names. A field NULL is null; all
// others are text. The names are in each row of the JSON that becomes of it, so a
// few bytes can be without end: more than most bytes are refused. Its error is
// an [*Error].
func ParseCSV(text []byte, most int64) (*Body, error) {
	if !utf8.Valid(text) { // to encode it as JSON would change it
		return nil, &Error{Reason: "a CSV body is not valid UTF-8"}
	}
	r := csv.NewReader(bytes.NewReader(text))
	records, err := r.ReadAll()
	if err != nil {
		reason := "malformed CSV"
		if errors.Is(err, csv.ErrFieldCount) {
			reason = "All lines must have same number of fields"
		}
		return nil, &Error{Offset: int(r.InputOffset()), Reason: reason}
	}
	if len(records) == 0 {
		return nil, &Error{Reason: "a CSV body begins with the names of its columns"}
	}
	names := make([][]byte, len(records[0]))
	for i, name := range records[0] {
		names[i] = append(appendString(nil, name), ':')
	}
	out := []byte{'['}
	for i, record := range records[1:] {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '{')
		for j, field := range record {
			if j > 0 {
				out = append(out, ',')
			}
			if int64(len(out)+len(names[j])+len(field)) > most {
				return nil, &Error{Reason: "the rows of a CSV body are too large as JSON: send fewer at once"}
			}
			out = append(out, names[j]...)
			if field == "NULL" {
				out = append(out, "null"...)
			} else {
				out = appendString(out, field)
			}
		}
		out = append(out, '}')
	}
	return Parse(append(out, ']'))
}

// ParseForm reads the fields of a form, which ampersands and semicolons separate, as one row of text.
// Its error is an [*Error].
func ParseForm(text []byte) (*Body, url.Values, error) {
	values, err := url.ParseQuery(strings.ReplaceAll(string(text), ";", "&"))
	if err != nil {
		return nil, nil, &Error{Reason: "malformed form"}
	}
	row := make(map[string]string, len(values))
	for name, all := range values {
		if !utf8.ValidString(name) || !utf8.ValidString(strings.Join(all, "")) {
			return nil, nil, &Error{Reason: "a form is not valid UTF-8"}
		}
		row[name] = all[len(all)-1]
	}
	encoded, err := json.Marshal(row)
	if err != nil { // strings only
		return nil, nil, &Error{Reason: "malformed form"}
	}
	b, err := Parse(encoded)
	return b, values, err
}

func appendString(out []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil { // a string
		panic("body: " + err.Error())
	}
	return append(out, text...)
}
