package rest

import (
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/rest/openapi"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// root is where the dialect is served.
const root = "/rest/v1"

// What the description at the root shows.
const (
	// OpenAPIFollow shows what the caller's role may use.
	OpenAPIFollow = "follow-privileges"
	// OpenAPIIgnore shows all that is exposed.
	OpenAPIIgnore = "ignore-privileges"
	// OpenAPIDisabled shows nothing.
	OpenAPIDisabled = "disabled"
)

// OpenAPIModes are all of them.
var OpenAPIModes = []string{OpenAPIFollow, OpenAPIIgnore, OpenAPIDisabled}

const openAPI = "application/openapi+json"

// documentType is the media type of the root's answer to a request, or "".
func documentType(accept []string) string {
	for _, m := range accepted(accept) {
		switch m.Type {
		case openAPI, "*/*", "application/json":
			return openAPI
		}
	}
	return ""
}

// readDocument reads a request for the description of a schema.
func (h *Handler) readDocument(c *gin.Context, exposed *exposure) (*request, error) {
	r := c.Request
	req := &request{method: r.Method, head: r.Method == http.MethodHead, header: r.Header, exposed: exposed}
	req.Action = plan.ActionRead
	if r.Method == http.MethodOptions {
		req.Action = plan.ActionOptions
	}
	if err := req.chooseSchema(); err != nil {
		return nil, err
	}
	if h.opts.OpenAPI == OpenAPIDisabled && req.Action == plan.ActionRead {
		return nil, pgrst.NoDocument()
	}
	contentType := documentType(r.Header.Values("Accept"))
	if contentType == "" {
		return nil, plan.NotAcceptable(accepted(r.Header["Accept"]))
	}
	req.documentType = contentType + inUTF8
	req.document = &plan.Statement{SQL: openapi.AccessSQL, Params: [][]byte{[]byte(req.profile), []byte(strconv.FormatBool(h.opts.OpenAPI == OpenAPIIgnore))}}
	return req, nil
}

// writeDocument answers with the description of s as the caller may use it.
func writeDocument(c *gin.Context, req *request, s *schema.Schema, out *outcome) error {
	text, err := openapi.Document(s, req.profile, root, out.row[0])
	if err != nil {
		return err //nolint:wrapcheck // it says where it comes from
	}
	req.bodyHeaders(c.Writer.Header(), req.documentType)
	if req.head {
		c.Writer.WriteHeader(http.StatusOK)
		c.Writer.WriteHeaderNow()
		return nil
	}
	send(c, http.StatusOK, text)
	return nil
}
