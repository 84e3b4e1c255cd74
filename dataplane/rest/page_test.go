package rest_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
)

// Limit, offset and Range as they meet.
func TestPages(t *testing.T) {
	a := fixture(t, rest.Options{})
	for _, c := range []struct {
		query, header string
		status        int
		contentRange  string
	}{
		{"", "", 200, "0-4/*"},
		{"limit=2", "", 200, "0-1/*"},
		{"limit=2&limit=3", "", 200, "0-2/*"},
		{"limit=x", "", 200, "0-4/*"},
		{"offset=-4", "", 200, "0-4/*"},
		{"offset=-1&limit=3", "", 200, "0-1/*"},
		{"limit=0", "", 200, "*/*"},
		{"limit=0", "1-2", 200, "*/*"},
		{"limit=0&offset=1", "", 416, ""},
		{"limit=-1", "", 416, ""},
		{"", "1-2", 200, "1-2/*"},
		{"", "2-", 200, "2-4/*"},
		{"", "2-1", 416, ""},
		{"", "bytes=0-1", 200, "0-4/*"},
		{"limit=2&offset=1", "2-4", 200, "2-2/*"},
		{"limit=1", "3-4", 416, ""},
		{"limit=9223372036854775807&offset=9223372036854775807", "", 200, "*/*"},
	} {
		w := a.get("/projects?order=id&"+c.query, "Range: "+c.header)
		require.Equal(t, c.status, w.Code, "%v: %s", c, w.Body)
		require.Equal(t, c.contentRange, w.Header().Get("Content-Range"), c)
		if c.header != "" && c.status == 416 {
			require.NotEqual(t, 416, a.do(http.MethodHead, "/projects?"+c.query, "", "Range: "+c.header).Code, "the header is of GET alone")
		}
	}
}
