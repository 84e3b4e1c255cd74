package adminapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/problem"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// page is where a list goes on: after the key, at most limit rows. The key is
// the last row's own, so rows that come and go meanwhile shift nothing.
type page struct {
	after string
	limit int
}

// readPage takes limit and cursor. A cursor is opaque: only the list that gave
// it takes it back, which its first part (the list's name) makes sure of.
func readPage(list string, q url.Values) (page, error) {
	p := page{limit: defaultLimit}
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxLimit {
			return p, invalidParameter("limit", "is not a number from 1 to "+strconv.Itoa(maxLimit))
		}
		p.limit = n
	}
	if s := q.Get("cursor"); s != "" {
		text, err := base64.RawURLEncoding.DecodeString(s)
		name, key, ok := strings.Cut(string(text), "\x00")
		if err != nil || !ok || name != list || key == "" || len(key) > 200 || !printable(key) {
			return p, invalidParameter("cursor", "is no cursor of this list")
		}
		p.after = key
	}
	return p, nil
}

// readPageByID is readPage for a list that goes by UUIDs.
func readPageByID(list string, q url.Values) (page, error) {
	p, err := readPage(list, q)
	if err == nil && p.after != "" && (len(p.after) != 36 || uuid.Validate(p.after) != nil) {
		err = invalidParameter("cursor", "is no cursor of this list")
	}
	return p, err
}

func (p page) forCatalog() catalog.Page { return catalog.Page{After: p.after, Limit: p.limit} }

// pageOf turns what a list found into a document; next is the catalog's own cursor.
func pageOf[T, D any](list string, found []T, next string, doc func(T) D) api.Page[D] {
	p := api.Page[D]{Items: make([]D, 0, len(found))}
	for _, f := range found {
		p.Items = append(p.Items, doc(f))
	}
	if next != "" {
		p.NextCursor = cursor(list, next)
	}
	return p
}

func cursor(list, key string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + key))
}

// onlyParameters refuses query parameters that a verb does not know, and any
// given twice: a misspelt filter must not silently select everything.
func onlyParameters(q url.Values, known ...string) error {
	for name, values := range q {
		ok := false
		for _, k := range known {
			ok = ok || k == name
		}
		if !ok {
			return invalidParameter(name, "is not a known parameter")
		}
		if len(values) > 1 {
			return invalidParameter(name, "is given twice")
		}
	}
	return nil
}

func invalidParameter(name, detail string) *problem.Problem {
	if len(name) > 64 {
		name = name[:64] + "…"
	}
	return problem.New(http.StatusBadRequest, "invalid_parameter", "a parameter of the request is wrong: "+strconv.Quote(name)+" "+detail,
		"see /openapi.yaml for what the verb takes").Param(name, detail)
}
