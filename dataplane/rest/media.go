package rest

import (
	"cmp"
	"mime"
	"slices"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
)

// media is the form of an answer's body.
type media struct {
	contentType string
	singular    bool
	stripNulls  bool
}

var jsonRows = media{contentType: "application/json; charset=utf-8"}

// negotiate picks what the client prefers of what is served.
func negotiate(accept []string) (media, error) {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "" || accept[0] == "*/*" || accept[0] == "application/json") {
		return jsonRows, nil
	}
	type wanted struct {
		mediaType string
		params    map[string]string
		quality   float64
	}
	var all []wanted
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			mediaType, params, err := mime.ParseMediaType(part)
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
	for _, w := range all {
		stripped := w.params["nulls"] == "stripped"
		switch w.mediaType {
		case "application/json", "application/*", "*/*":
			return jsonRows, nil
		case "application/vnd.pgrst.array", "application/vnd.pgrst.array+json":
			if !stripped {
				return jsonRows, nil
			}
			return media{contentType: "application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8", stripNulls: true}, nil
		case "application/vnd.pgrst.object", "application/vnd.pgrst.object+json":
			if !stripped {
				return media{contentType: "application/vnd.pgrst.object+json; charset=utf-8", singular: true}, nil
			}
			return media{contentType: "application/vnd.pgrst.object+json;nulls=stripped; charset=utf-8", singular: true, stripNulls: true}, nil
		}
	}
	return media{}, pgrst.NotAcceptable(clip(strings.Join(accept, ", ")))
}
