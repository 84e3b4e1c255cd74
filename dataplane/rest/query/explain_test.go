package query

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The scanner and the grammar that explains what it refuses refuse the same.
func TestGrammarAndScannerAgree(t *testing.T) {
	pieces := rapid.SampledFrom([]string{"a", "b c", "-", "->", "->>", "0", "-1", ".", ",", "(", ")", "*", ":", "::", "text", "!", "inner", "not", "and", "or", "eq", "in", "is", "null",
		"any", "fts", "count", "count()", "sum()", "asc", "nullslast", "\"", "\\", "{", "}", " ", "é", "...", "x(y)", "a.eq.1", "(a.eq.1)", ".desc"})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(pieces, 0, 8).Draw(t, "pieces"), "")
		if regexp.MustCompile(`""|!inner|\d\)|\) `).MatchString(text) {
			t.Skip() // no name is empty; `inner…` is a hint, `->0)` an index, and space after `)` nothing
		}
		for what, param := range map[string]string{"select parameter": "select=", "filter": "x=", "logic tree": "and=", "order": "order=", "columns parameter": "columns="} {
			source := text
			if what == "logic tree" {
				if source = "and" + text; !strings.HasPrefix(text, "(") { // a column of that name
					continue
				}
			}
			_, err := Parse(param + url.QueryEscape(text))
			o := grammars[what]([]rune(source), 0)
			if o.ok != (err == nil) && !blank(text) {
				t.Fatalf("%s %q: grammar %v at %d, scanner %v", what, text, o.ok, o.at, err)
			}
		}
	})
}

// blank tells whether a name in text is of spaces only, or might be.
func blank(text string) bool {
	return regexp.MustCompile(`(^|[^a-z0-9)"]) | ($|[^a-z0-9("])`).MatchString(text)
}
