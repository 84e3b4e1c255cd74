package body_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/body"
)

func TestFormats(t *testing.T) {
	for text, want := range map[string]string{
		"a,b\n1,\"x,\"\"y\"\"\"\nNULL,": `[{"a":"1","b":"x,\"y\""},{"a":null,"b":""}]`,
		"a\n":                           `[]`,
		"é\n\u2028":                     `[{"é":"\u2028"}]`,
	} {
		b, err := body.ParseCSV([]byte(text), 1<<20)
		require.NoError(t, err, text)
		require.JSONEq(t, want, string(b.Text))
	}
	for _, text := range []string{"", "a,b\n1", "a\n\"", "a\n\xff", "a\n\x00"} {
		b, err := body.ParseCSV([]byte(text), 1<<20)
		require.ErrorIs(t, err, body.ErrInvalid, "%q: %v", text, b)
	}
	b, values, err := body.ParseForm([]byte("a=1&b=x+y;a=2"))
	require.NoError(t, err)
	require.JSONEq(t, `{"a":"2","b":"x y"}`, string(b.Text))
	require.Equal(t, []string{"1", "2"}, values["a"])
	_, _, err = body.ParseForm([]byte("%zz"))
	require.ErrorIs(t, err, body.ErrInvalid)
	for _, text := range []string{`1`, ` "x" `, `[1,{"a":2}]`, `null`} {
		b, err := body.Value([]byte(text))
		require.NoError(t, err)
		require.Empty(t, b.Rows)
	}
	_, err = body.Value([]byte(`[1] 2`))
	require.ErrorIs(t, err, body.ErrInvalid)
}

// A long name stands in every row.
func TestCSVIsBounded(t *testing.T) {
	name, rows := strings.Repeat("n", 1000), strings.Repeat("1\n", 1000)
	b, err := body.ParseCSV([]byte(name+"\n"+rows), 1<<20)
	require.NoError(t, err)
	require.Len(t, b.Rows, 1000)
	require.LessOrEqual(t, len(b.Text), 1<<20)
	_, err = body.ParseCSV([]byte(name+"\n"+rows+rows), 1<<20)
	require.ErrorIs(t, err, body.ErrInvalid)
	// This would be a hundred gigabytes.
	_, err = body.ParseCSV([]byte(strings.Repeat("n", 500_000)+"\n"+strings.Repeat("1\n", 250_000)), 8<<20)
	require.ErrorIs(t, err, body.ErrInvalid)
}

// Whatever comes, an accepted body is JSON.
func FuzzFormats(f *testing.F) {
	for _, seed := range []string{"a,b\n1,NULL", "a=1&b=%20", `[1,"x"]`, "\xff", "\"", "a\n\"\n\"", "=&="} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		csv, csvErr := body.ParseCSV(text, 1<<20)
		form, _, formErr := body.ParseForm(text)
		value, valueErr := body.Value(text)
		for _, r := range []struct {
			b   *body.Body
			err error
		}{{csv, csvErr}, {form, formErr}, {value, valueErr}} {
			switch {
			case r.err != nil && !errors.Is(r.err, body.ErrInvalid):
				t.Fatalf("%q: %v", text, r.err)
			case r.err == nil && !json.Valid(r.b.Text):
				t.Fatalf("accepted %q", text)
			}
		}
	})
}
