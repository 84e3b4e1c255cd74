package adminapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/freehold-db/freehold/internal/problem"
)

// MaxBody bounds a request's body, in bytes. No verb needs more than a few kilobytes.
const MaxBody = 1 << 20

// readBody takes the whole body, at most [MaxBody].
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := problem.New(http.StatusRequestEntityTooLarge, "body_too_large",
		fmt.Sprintf("the body is larger than %d bytes", MaxBody), "send only the documented fields")
	if r.ContentLength > MaxBody {
		return nil, tooLarge // without reading any of it
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	var max *http.MaxBytesError
	switch {
	case errors.As(err, &max):
		return nil, tooLarge
	case err != nil:
		return nil, problem.New(http.StatusBadRequest, "body_unreadable", "the body ended early or could not be read", "send the request again")
	}
	if len(body) == 0 {
		return nil, nil
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, problem.New(http.StatusUnsupportedMediaType, "not_json", "the body's Content-Type is not application/json",
			"send JSON with Content-Type: application/json")
	}
	return body, nil
}

// decode parses a body into v, strictly: one JSON value of v's shape, names in
// their exact case, none unknown and none twice, valid UTF-8, nothing after it.
// An empty body is an empty object. Its error is a problem that points at the place.
func decode(body []byte, v any) error {
	if len(body) == 0 {
		body = []byte("{}")
	}
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != '{' {
		// null and scalars would be accepted by some decoders as "nothing to set".
		if err := syntax(body); err != nil {
			return err
		}
		return invalidBody().At("", "is not an object")
	}
	if err := syntax(body); err != nil {
		return err
	}
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	var semantic *json.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &semantic):
		return invalidBody().At(string(semantic.JSONPointer), sayType(semantic))
	}
	return invalidBody().At("", "does not fit the documented shape")
}

// decodePatch is decode for a body whose members replace what they name. None
// may be null, which would look like a removal and be none.
func (c *call) decodePatch(v any) error {
	if err := decode(c.body, v); err != nil {
		return err
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(c.body, &members); err != nil && len(c.body) > 0 {
		return invalidBody()
	}
	for name, value := range members {
		if value.Kind() == 'n' {
			return invalidBody().At("/"+name, "must not be null")
		}
	}
	return nil
}

// syntax checks that body is exactly one JSON value.
func syntax(body []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(body))
	_, err := d.ReadValue()
	if err == nil {
		if _, err = d.ReadToken(); errors.Is(err, io.EOF) {
			return nil
		}
		return malformed(d.InputOffset()).At("", "there is something after the JSON value")
	}
	var bad *jsontext.SyntacticError
	if errors.As(err, &bad) {
		return malformed(bad.ByteOffset).At(string(bad.JSONPointer), bad.Err.Error())
	}
	return malformed(d.InputOffset()).At("", "the JSON value ends early")
}

func malformed(offset int64) *problem.Problem {
	return problem.New(http.StatusBadRequest, "malformed_json", fmt.Sprintf("the body is not JSON as RFC 8259 wants it (at byte %d)", offset),
		"mend the body; names must not be given twice and text must be UTF-8")
}

func invalidBody() *problem.Problem {
	return problem.New(http.StatusBadRequest, "invalid_body", "the body does not have the documented shape",
		"compare it with /openapi.yaml; unknown fields are refused so that a misspelt one is noticed")
}

// sayType says in JSON's words what is wrong, without naming Go's types.
func sayType(e *json.SemanticError) string {
	if errors.Is(e.Err, json.ErrUnknownName) {
		return "is not a known field"
	}
	switch kind := e.JSONKind; {
	case kind == 'n':
		return "must not be null"
	case kind != 0:
		return fmt.Sprintf("has the wrong type or range: %s does not fit here", kind)
	}
	return "does not fit here"
}
