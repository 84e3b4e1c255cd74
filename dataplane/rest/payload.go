package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/intake"
	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
)

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
	typeCSV  = "text/csv"
)

// csvGrows is how many times the bound of a body may become of CSV.
const csvGrows = 8

// rawTypes are the bodies that only a function with one unnamed argument takes, by its type.
var rawTypes = map[string]string{"text/plain": "text", "text/xml": "xml", "application/octet-stream": "bytea"}

// readBody reads what the action takes a body for, within the bound of the
// options; the gateway's may be smaller.
func (h *Handler) readBody(c *gin.Context, req *request) error {
	switch req.Action {
	case plan.ActionInsert, plan.ActionUpdate, plan.ActionPut:
	case plan.ActionCall:
		if req.Args.ReadOnly {
			req.Args.Named = req.Query.Args
			return nil
		}
	case plan.ActionRead, plan.ActionDelete, plan.ActionOptions:
		return nil
	}
	mediaType := typeJSON
	if header := c.GetHeader("Content-Type"); header != "" { // whatever its parameters are
		mediaType, _, _ = strings.Cut(header, ";")
		mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	}
	id, _ := IdentityFrom(c.Request.Context())
	text, err := intake.Bytes(c.Writer, c.Request, h.maxBody(id))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if gone := c.Request.Context().Err(); gone != nil || errors.As(err, &tooLarge) {
			return fmt.Errorf("read the body: %w", errors.Join(gone, err))
		}
		return pgrst.InvalidBody("The body could not be read").WithCause(err) // cut off, or badly chunked
	}
	if req.Action == plan.ActionCall {
		return req.readArgs(mediaType, c.GetHeader("Content-Type"), text, csvGrows*h.maxBody(id))
	}
	switch mediaType {
	case typeJSON:
		req.Body, err = body.Parse(text)
	case typeCSV:
		req.Body, err = body.ParseCSV(text, csvGrows*h.maxBody(id))
	case typeForm:
		req.Body, _, err = body.ParseForm(text)
	default:
		return notReadable(c.GetHeader("Content-Type"))
	}
	return invalid(err, mediaType)
}

func notReadable(contentType string) error {
	return pgrst.InvalidBody("Content-Type not acceptable: " + clip(media(contentType).Text))
}

// readArgs takes a function's arguments from its body; mostCSV bounds what becomes of CSV.
func (req *request) readArgs(mediaType, contentType string, text []byte, mostCSV int64) error {
	var err error
	switch mediaType {
	case typeJSON:
		req.Args.JSON = true
		if len(text) == 0 { // nothing given
			return nil
		}
		req.Args.Body, err = body.Value(text)
	case typeCSV:
		req.Args.Body, err = body.ParseCSV(text, mostCSV)
	case typeForm:
		values, formErr := parseForm(text)
		if formErr != nil {
			return invalid(formErr, mediaType)
		}
		req.Args.Named = values
	default:
		rawType, ok := rawTypes[mediaType]
		if !ok {
			return notReadable(contentType)
		}
		req.Args.RawType, req.Args.Raw = rawType, append([]byte{}, text...)
	}
	return invalid(err, mediaType)
}

func parseForm(text []byte) ([]query.Arg, error) {
	b, values, err := body.ParseForm(text)
	if err != nil {
		return nil, err
	}
	var args []query.Arg
	for _, name := range b.AllKeys() {
		for _, value := range values[name] {
			args = append(args, query.Arg{Name: name, Value: value})
		}
	}
	return args, nil
}

// invalid is err in the dialect's words, or nil.
func invalid(err error, mediaType string) error {
	var e *body.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &e):
		return err
	case mediaType != typeJSON || e.Keys:
		return pgrst.InvalidBody(e.Reason)
	}
	return pgrst.InvalidBody("Empty or invalid json").WithCause(err)
}

func clip(s string) string { return s[:min(len(s), 100)] }
