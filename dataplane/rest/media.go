package rest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

const (
	inUTF8        = "; charset=utf-8"
	nullsStripped = ";nulls=stripped"
)

// anything is what a client accepts that doesn't say what it accepts.
var (
	anything = []plan.Media{{Type: schema.AnyMedia, Text: schema.AnyMedia}}
	nothing  = []plan.Media{{}}
	onlyJSON = []plan.Media{{Type: "application/json", Text: "application/json"}}
)

// accepted reads the Accept header, as PostgREST does the first if there are several: the media types in the
// order of preference. One that is empty accepts nothing.
func accepted(headers []string) []plan.Media {
	if len(headers) == 0 {
		return anything
	}
	switch headers[0] {
	case "":
		return nothing
	case schema.AnyMedia:
		return anything
	case "application/json":
		return onlyJSON
	}
	type weighed struct {
		plan.Media
		quality  float64
		specific int
	}
	var all []weighed
	for part := range splitOutside(headers[0], ',') {
		part = strings.ReplaceAll(part, " ", "")
		text, after, weighted := strings.Cut(part, ";q=")
		w := weighed{media(text), 1, strings.Count(text, ";") - strings.Count(text, "*")}
		if weighted {
			number, _, _ := strings.Cut(after, ";")
			if q, err := strconv.ParseFloat(number, 64); err == nil {
				w.quality = q
			}
		}
		all = append(all, w) // as with PostgREST, a quality of 0 is the last choice
	}
	slices.SortStableFunc(all, func(a, b weighed) int {
		return cmp.Or(cmp.Compare(b.quality, a.quality), cmp.Compare(b.specific, a.specific))
	})
	types := make([]plan.Media, len(all))
	for i := range all {
		types[i] = all[i].Media
	}
	return types
}

// media reads one media type with its parameters. What is none stays as it is
// and will not be found.
func media(text string) plan.Media {
	m := plan.Media{Text: text}
	params := map[string]string{}
	n := 0
	for part := range splitOutside(text, ';') {
		if n++; n == 1 {
			m.Type = strings.ToLower(strings.TrimSpace(part))
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		params[strings.ToLower(name)] = strings.Trim(value, `"`)
	}
	stripped := params["nulls"] == "stripped"
	switch m.Type {
	case "application/vnd.pgrst.object", plan.MediaObject:
		m.Type, m.StripNulls, m.Text = plan.MediaObject, stripped, plan.MediaObject
		if stripped {
			m.Text += nullsStripped
		}
	case "application/vnd.pgrst.array", plan.MediaArray:
		m.Type, m.StripNulls, m.Text = plan.MediaArray, stripped, typeJSON
		if stripped {
			m.Text = plan.MediaArray + nullsStripped
		}
	case plan.MediaPlan, plan.MediaPlan + "+text", plan.MediaPlan + "+json":
		m.Explain = &plan.Explain{For: onlyJSON[0], JSON: strings.HasSuffix(m.Type, "+json")}
		if of := params["for"]; of != "" {
			m.Explain.For = media(of)
			m.Explain.For.Explain = nil
		}
		for _, option := range plan.ExplainOptions {
			if slices.Contains(strings.Split(params["options"], "|"), option) {
				m.Explain.Options = append(m.Explain.Options, option)
			}
		}
		m.Type, m.Text = plan.MediaPlan, m.Explain.MediaType()
	case typeJSON, typeCSV, typeForm, openAPI, schema.AnyMedia, "application/geo+json", "text/plain", "text/xml", "application/octet-stream":
		m.Text = m.Type // whatever its parameters are
	default: // of one that only a handler can make, its parameters are a part
		m.Type = strings.ToLower(text)
	}
	return m
}

// splitOutside splits text at a separator, but not inside of quotes.
func splitOutside(text string, at byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		start, quoted := 0, false
		for i := range len(text) {
			switch {
			case text[i] == '"':
				quoted = !quoted
			case text[i] == at && !quoted:
				if !yield(text[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(text[start:])
	}
}
