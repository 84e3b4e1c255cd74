package rest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
)

// answer runs a request and writes what came of it. After an error nothing is written.
func (h *Handler) answer(c *gin.Context, id Identity, req *request) error {
	out, err := h.run(c.Request.Context(), id, req)
	if err != nil {
		return err
	}
	if req.Action == plan.ActionOptions {
		c.Writer.Header().Set("Allow", out.allow)
		send(c, http.StatusOK, nil)
		return nil
	}
	if req.document != nil {
		return writeDocument(c, req, out.schema, out)
	}
	if out.plan.Explain != nil {
		req.bodyHeaders(c.Writer.Header(), out.plan.ContentType)
		send(c, http.StatusOK, out.explained)
		return nil
	}
	rows, err := number(out.row[plan.ColumnRows], 0)
	if err != nil {
		return err
	}
	total, err := out.total()
	if err != nil {
		return err
	}
	override, err := out.override()
	if err != nil {
		return err
	}
	if out.plan.Write == nil {
		return writeRead(c, req, out, override, rows, total)
	}
	return writeWrite(c, req, out, override, rows, total)
}

func number(text []byte, absent int64) (int64, error) {
	if text == nil {
		return absent, nil
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the statement's counts: %w", err)
	}
	return n, nil
}

func writeRead(c *gin.Context, req *request, out *outcome, override override, rows, total int64) error {
	offset := req.Page.Offset
	if out.plan.Answer.Singular && rows != 1 {
		return pgrst.NotSingular(rows)
	}
	body, err := out.body()
	if err != nil {
		return err
	}
	status := http.StatusOK
	switch {
	case total >= 0 && offset > total: // an error in the body only: its headers are of the page asked for
		status = http.StatusRequestedRangeNotSatisfiable
		if body, err = pgrst.OutOfRange(offset, total).MarshalJSON(); err != nil {
			return fmt.Errorf("render the refusal: %w", err)
		}
	case total > rows:
		status = http.StatusPartialContent
	}
	p := &req.prefer
	h := c.Writer.Header()
	h.Set("Content-Range", contentRange(offset, offset+rows-1, total))
	if out.plan.Call == nil {
		h.Set("Content-Location", contentLocation(req))
	}
	req.preferenceApplied(h, applied(p.count, p.tx, p.handling, zone(p), maxAffectedApplied(req)))
	if out.plan.Call != nil && out.plan.Call.Function.Void() {
		if status = override.apply(h, http.StatusNoContent); status != http.StatusNoContent {
			send(c, status, nil)
			return nil
		}
		c.Writer.WriteHeader(status)
		c.Writer.WriteHeaderNow()
		return nil
	}
	req.bodyHeaders(h, out.plan.ContentType)
	status = override.apply(h, status)
	if req.head {
		c.Writer.WriteHeader(status)
		c.Writer.WriteHeaderNow()
		return nil
	}
	if send(c, status, body) {
		out.release()
	}
	return nil
}

func writeWrite(c *gin.Context, req *request, out *outcome, override override, rows, total int64) error {
	p := &req.prefer
	h := c.Writer.Header()
	full := req.Return == plan.ReturnRows
	status, first, last := http.StatusNoContent, int64(1), int64(0)
	resolution, missing := "", p.missing
	switch op := out.plan.Write.(type) {
	case *plan.Insert:
		inserted, err := number(out.row[plan.ColumnInserted], 1)
		if err != nil {
			return err
		}
		put := req.Action == plan.ActionPut
		switch {
		case put && rows != 1:
			return pgrst.OtherKey()
		case put && !full: // says nothing, even of a new row
		case inserted > 0:
			status = http.StatusCreated
		case !put: // an upsert that only updated
			status = http.StatusOK
		}
		if put {
			missing = ""
		}
		if op.Conflict != nil && !put {
			resolution = p.resolution
		}
		if location := location(req, op, out.row[plan.ColumnLocation]); location != "" {
			h.Set("Location", location)
		}
	case *plan.Update:
		first, last = 0, rows-1
	case *plan.Delete:
		missing = ""
	}
	if full && status == http.StatusNoContent {
		status = http.StatusOK
	}
	if req.Action != plan.ActionPut {
		h.Set("Content-Range", contentRange(first, last, total))
	}
	req.preferenceApplied(h, applied(resolution, missing, p.representation, p.count, p.tx, p.handling, zone(p), maxAffectedApplied(req)))
	var body []byte
	if full {
		var err error
		if body, err = out.body(); err != nil {
			return err
		}
		req.bodyHeaders(h, out.plan.ContentType)
	}
	switch status = override.apply(h, status); {
	case full:
		send(c, status, body)
	case status == http.StatusNoContent:
		c.Writer.WriteHeader(status)
		c.Writer.WriteHeaderNow()
	default:
		send(c, status, nil)
	}
	return nil
}

// send tells whether the body was taken whole. A client that is gone is nobody
// to tell, but then the body may be looked at still: on a stream of HTTP/2 that
// was reset, by the connection's own goroutine.
func send(c *gin.Context, status int, body []byte) bool {
	c.Writer.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.Writer.WriteHeader(status)
	c.Writer.WriteHeaderNow()
	_, err := c.Writer.Write(body)
	return err == nil
}

func (req *request) bodyHeaders(h http.Header, contentType string) {
	h.Set("Content-Type", contentType)
	if req.negotiated {
		h.Set("Content-Profile", req.profile)
	}
}

func (req *request) preferenceApplied(h http.Header, preferences string) {
	if preferences != "" {
		h.Set("Preference-Applied", preferences)
	}
}

func zone(p *preferences) string {
	if p.timezone == "" {
		return ""
	}
	return "timezone=" + p.timezone
}

func maxAffectedApplied(req *request) string {
	if req.Answer.MaxAffected < 0 {
		return ""
	}
	return "max-affected=" + strconv.FormatInt(req.Answer.MaxAffected, 10)
}

// body is what the statement made, in the client's form.
func (out *outcome) body() ([]byte, error) {
	if !out.plan.Binary() {
		return out.row[plan.ColumnBody], nil
	}
	body, err := hex.DecodeString(string(out.row[plan.ColumnBody]))
	if err != nil {
		return nil, fmt.Errorf("the statement's body: %w", err)
	}
	return body, nil
}

// location points at the one row that was inserted, by its primary key.
func location(req *request, in *plan.Insert, key []byte) string {
	var values map[string]json.RawMessage
	if key == nil || json.Unmarshal(key, &values) != nil {
		return ""
	}
	var b strings.Builder
	b.WriteString("/" + req.Relation.Name)
	for i, name := range in.Into.PrimaryKey {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(encode(name) + "=")
		var text string
		switch raw := values[name]; {
		case string(raw) == "null":
			b.WriteString("is.null")
		case json.Unmarshal(raw, &text) == nil:
			b.WriteString("eq." + encode(text))
		default: // a number or the like: its text is its value's
			b.WriteString("eq." + encode(string(raw)))
		}
	}
	return b.String()
}

// contentLocation is the request in a canonical form: parameters sorted by name.
func contentLocation(req *request) string {
	b := append(append(make([]byte, 0, 256), '/'), req.Relation.Name...)
	if req.rawQuery == "" {
		return string(b)
	}
	pairs := make([][2]string, 0, 8)
	for param := range strings.SplitSeq(req.rawQuery, "&") {
		key, value, _ := strings.Cut(param, "=")
		pairs = append(pairs, [2]string{widened(query.Unescape(key)), widened(query.Unescape(value))})
	}
	slices.SortStableFunc(pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	for i, pair := range pairs {
		if i > 0 && pair[0] == pairs[i-1][0] { // one of a name: its values are a list
			b = append(b, ',')
		} else {
			b = append(b, "?&"[min(i, 1)])
			b = appendEncoded(b, pair[0])
			b = append(b, '=')
		}
		b = appendEncoded(b, pair[1])
	}
	return string(b)
}

// widened takes each byte of s for a character: that is how PostgREST names what is beyond ASCII
// in the Content-Location.
func widened(s string) string {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			wide := make([]rune, len(s))
			for i := range len(s) {
				wide[i] = rune(s[i])
			}
			return string(wide)
		}
	}
	return s
}

func encode(s string) string { return string(appendEncoded(nil, s)) }

// appendEncoded percent-encodes all but the unreserved characters.
func appendEncoded(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0:
			b = append(b, c)
		default:
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
