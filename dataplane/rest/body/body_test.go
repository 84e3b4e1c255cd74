package body_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/body"
)

func TestParse(t *testing.T) {
	b, err := body.Parse([]byte(` {"b":1,"a":[{"x":null},"\u00e9\ud83d\ude00"]} `))
	require.NoError(t, err)
	require.False(t, b.Array)
	require.Equal(t, [][]string{{"a", "b"}}, b.Keys)

	b, err = body.Parse([]byte(`[{"a":1,"b":true}, {"b":-0.5e10,"a":"x"},{"\u0061":2,"b":null}]`))
	require.NoError(t, err)
	require.True(t, b.Array)
	require.True(t, b.Uniform())
	require.Len(t, b.Rows, 3)
	require.Equal(t, `{"b":-0.5e10,"a":"x"}`, string(b.Rows[1]))

	b, err = body.Parse([]byte(`[{"a":1},{"b":1}]`))
	require.NoError(t, err)
	require.False(t, b.Uniform())
	require.Equal(t, []string{"a", "b"}, b.AllKeys())

	b, err = body.Parse([]byte(`[]`))
	require.NoError(t, err)
	require.True(t, b.Uniform())
	require.Empty(t, b.Rows)
}

// What PostgREST takes as well.
func TestTaken(t *testing.T) {
	for _, text := range []string{`1`, ` "a" `, `null`, `true`} {
		b, err := body.Parse([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, "[]", string(b.Text))
		require.True(t, b.Array)
		require.Empty(t, b.Rows)
	}
	for _, text := range []string{`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `[{"a":{"b":1,"b":2}}]`} {
		b, err := body.Parse([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, [][]string{{"a"}}, b.Keys)
	}
	for _, text := range []string{`[1]`, `[{},1]`, `["a",{}]`} {
		_, err := body.Parse([]byte(text))
		var e *body.Error
		require.ErrorAs(t, err, &e)
		require.True(t, e.Keys, text)
	}
}

func TestRefused(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64)
	_, err := body.Parse([]byte(deep))
	require.NoError(t, err, "64 levels are allowed")
	for name, text := range map[string]string{
		"empty":                 ``,
		"trailing":              `{} {}`,
		"trailing garbage":      `{}x`,
		"invalid UTF-8":         "{\"a\":\"\xff\"}",
		"invalid UTF-8 escaped": "{\"a\":\"\\n\xff\"}",
		"NUL":                   `{"a":"\u0000"}`,
		"lone surrogate":        `{"a":"\ud800"}`,
		"wrong pair":            `{"a":"\ud800\u0041"}`,
		"control character":     "{\"a\":\"\n\"}",
		"too deep":              strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65),
		"much too deep":         strings.Repeat(`[`, 100_000),
		"exponent":              `{"a":1e131071}`,
		"negative exponent":     `{"a":1e-131071}`,
		"endless exponent":      `{"a":1e99999999999999999999}`,
		"leading zero":          `{"a":01}`,
		"bare minus":            `{"a":-}`,
		"NaN":                   `{"a":NaN}`,
		"half a word":           `{"a":tru}`,
		"comma at the end":      `{"a":1,}`,
		"no value":              `{"a"}`,
		"open":                  `{"a":1`,
		"open string":           `{"a":"x`,
		"bad escape":            `{"a":"\x"}`,
		"bad hex":               `{"a":"\u00g0"}`,
		"BOM":                   "\ufeff{}",
	} {
		_, err := body.Parse([]byte(text))
		require.ErrorIs(t, err, body.ErrInvalid, name)
	}
}

// Whatever is accepted is JSON to the standard library too, with the same keys.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{}`, `[]`, `[{"a":1},{"a":"\ud83d\ude00"}]`, `{"a":{"b":[1e5,-0.1]}}`, `{"a":"\u0000"}`, "{\"\xff\":1}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := body.Parse(text)
		if err != nil {
			return
		}
		for i, row := range b.Rows {
			var m map[string]json.RawMessage
			if err := json.Unmarshal(row, &m); err != nil {
				t.Fatalf("accepted %q: %v", row, err)
			}
			if len(m) != len(b.Keys[i]) {
				t.Fatalf("%q: keys %q", row, b.Keys[i])
			}
			for _, k := range b.Keys[i] {
				if _, ok := m[k]; !ok {
					t.Fatalf("%q: key %q is not there", row, k)
				}
			}
		}
	})
}
