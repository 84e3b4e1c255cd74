package rest

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/rest/openapi"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// root is where the dialect is served.
const root = "/rest/v1"

// documentType is the media type of the root's answer to a request, or "".
func documentType(accept []string) string {
	const own = "application/openapi+json"
	if len(accept) == 0 {
		return own
	}
	for _, w := range preferred(accept) {
		switch w.mediaType {
		case own, "application/*", "*/*":
			return own
		case "application/json":
			return w.mediaType
		}
	}
	return ""
}

// readDocument reads a request for the description of a schema.
func (h *Handler) readDocument(c *gin.Context) (*request, error) {
	r := c.Request
	req := &request{method: r.Method, head: r.Method == http.MethodHead}
	req.Action = plan.ActionRead
	if r.Method == http.MethodOptions {
		req.Action = plan.ActionOptions
	}
	if err := h.chooseSchema(req, r.Header); err != nil {
		return nil, err
	}
	contentType := documentType(r.Header.Values("Accept"))
	if contentType == "" {
		return nil, pgrst.NotAcceptable(clip(r.Header.Get("Accept")))
	}
	req.media.contentType = contentType + utf8
	req.document = &plan.Statement{SQL: openapi.AccessSQL, Params: [][]byte{[]byte(req.profile)}}
	req.headers = headersJSON(r.Header)
	return req, nil
}

// writeDocument answers with the description of s as the caller may use it.
func writeDocument(c *gin.Context, req *request, s *schema.Schema, out *outcome) error {
	text, err := openapi.Document(s, req.profile, root, out.row[0])
	if err != nil {
		return err //nolint:wrapcheck // it says where it comes from
	}
	req.bodyHeaders(c.Writer.Header(), out.plan)
	if req.head {
		text = nil
	}
	send(c, http.StatusOK, text)
	return nil
}
