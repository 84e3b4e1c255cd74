package rest

import (
	"cmp"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
)

// media is the form of an answer's body.
type media struct {
	contentType string
	format      plan.Format
	singular    bool
	stripNulls  bool
	explain     *explain
}

const utf8 = "; charset=utf-8"

var jsonRows = media{contentType: "application/json" + utf8}

// wanted is one entry of an Accept header.
type wanted struct {
	mediaType string
	params    map[string]string
	quality   float64
}

// negotiate picks what the client prefers of what is served. Types that only a
// function's own result could have are raw: those preferred to the one picked,
// or all of them with the error that ends the request unless one of them fits.
func negotiate(accept []string, plans bool) (m media, raw []string, err error) {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "" || accept[0] == "*/*" || accept[0] == "application/json") {
		return jsonRows, nil, nil
	}
	for _, w := range preferred(accept) {
		if m, ok := w.served(plans); ok {
			return m, raw, nil
		}
		raw = append(raw, w.mediaType)
	}
	return media{}, raw, pgrst.NotAcceptable(clip(strings.Join(accept, ", ")))
}

func preferred(accept []string) []wanted {
	var all []wanted
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			mediaType, params, err := mime.ParseMediaType(withoutEmpty(part))
			if err != nil {
				continue
			}
			w := wanted{mediaType, params, 1}
			if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
				w.quality = q
			}
			if w.quality > 0 {
				all = append(all, w)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b wanted) int { return cmp.Compare(b.quality, a.quality) })
	return all
}

// withoutEmpty drops parameters without a value, which clients send (`options=;`)
// and no media type may have.
func withoutEmpty(part string) string {
	if !strings.Contains(part, "=;") && !strings.HasSuffix(part, "=") {
		return part
	}
	params := slices.DeleteFunc(strings.Split(part, ";"), func(p string) bool {
		p = strings.TrimSpace(p)
		return p == "" || strings.HasSuffix(p, "=")
	})
	return strings.Join(params, ";")
}

func (w wanted) served(plans bool) (media, bool) {
	stripped := w.params["nulls"] == "stripped"
	switch w.mediaType {
	case "application/json", "application/*", "*/*":
		return jsonRows, true
	case "text/csv":
		return media{contentType: "text/csv" + utf8, format: plan.CSV}, true
	case "application/vnd.pgrst.array", "application/vnd.pgrst.array+json":
		if !stripped {
			return jsonRows, true
		}
		return media{contentType: "application/vnd.pgrst.array+json;nulls=stripped" + utf8, stripNulls: true}, true
	case "application/vnd.pgrst.object", "application/vnd.pgrst.object+json":
		if !stripped {
			return media{contentType: "application/vnd.pgrst.object+json" + utf8, singular: true}, true
		}
		return media{contentType: "application/vnd.pgrst.object+json;nulls=stripped" + utf8, singular: true, stripNulls: true}, true
	case "application/vnd.pgrst.plan", "application/vnd.pgrst.plan+text", "application/vnd.pgrst.plan+json":
		return w.plan(), plans
	}
	return media{}, false
}
