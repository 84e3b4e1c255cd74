package rest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// headersJSON are a request's headers for SQL to read as request.headers: names
// in lower case, and none of those that carry credentials.
func headersJSON(header http.Header) []byte {
	plain := make(map[string]string, len(header))
	for name, values := range header {
		switch name {
		case "Authorization", "Proxy-Authorization", "Cookie", "Apikey", "X-Api-Key", "Neon-Connection-String":
		default:
			plain[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	text, err := json.Marshal(plain)
	if err != nil { // strings only
		panic("rest: " + err.Error())
	}
	return text
}
