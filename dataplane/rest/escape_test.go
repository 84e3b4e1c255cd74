package rest_test

import "strings"

// escape makes a readable path one that http.NewRequest takes.
func escape(path string) string {
	return strings.NewReplacer(" ", "%20", `"`, "%22", "{", "%7B", "}", "%7D", ">", "%3E", "^", "%5E", "\\", "%5C").Replace(path)
}
