package intake

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Headers are a request's headers as JSON, for SQL to read as request.headers:
// names in lower case, and none of those that carry credentials. What is no
// valid text in them becomes U+FFFD.
func Headers(header http.Header) []byte {
	text := []byte{'{'}
	for _, name := range slices.Sorted(maps.Keys(header)) {
		switch name {
		case "Authorization", "Proxy-Authorization", "Cookie", "Apikey", "X-Api-Key", "Neon-Connection-String":
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text, _ = jsontext.AppendQuote(text, strings.ToLower(name)) // says that it mended a text
		text = append(text, ':')
		text, _ = jsontext.AppendQuote(text, strings.Join(header[name], ", "))
	}
	return append(text, '}')
}
