package sqlhttp

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/tenantdb"
)

// Whatever stands before a word, Postgres skips it, and so do we.
func FuzzGuardIsNotHiddenFrom(f *testing.F) {
	f.Add(" /* a /* b */ */ -- c\n;", "*/")
	f.Add("", "/*")
	f.Fuzz(func(t *testing.T, before, comment string) {
		_, _ = leadingWords(before) // must end, and not panic
		comment = strings.NewReplacer("*/", "", "/*", "", "/", "", "*", "").Replace(comment)
		sql := " \t;/*" + comment + "/*" + comment + "*/*/--" + strings.NewReplacer("\n", "", "\r", "").Replace(comment) + "\nCoMMit"
		require.Error(t, permitted([]statement{{sql: sql}}, tenantdb.Owner), "%q", sql)
	})
}

// A JSON array becomes a Postgres array that reads back as the same.
func FuzzArrays(f *testing.F) {
	for _, s := range []string{`[]`, `[1,null,"NULL",""]`, `["a\"b\\c",{"k":[1]}]`, `[["x"],["y,}"]]`, `[true]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := jsontext.Value(text)
		if v.Kind() != '[' || !v.IsValid() {
			return
		}
		got, err := parameter(v)
		if err != nil {
			return // a NUL byte
		}
		back, ok := appendArray(nil, 0, got)
		require.True(t, ok, "%s became %s", text, got)
		require.True(t, jsontext.Value(back).IsValid(), "%s became %s", text, back)
	})
}
