package rest

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/query"
)

// page is the part of the rows that limit, offset and (for GET alone) the Range
// header ask for together.
func page(root *query.Scope, r *http.Request) (plan.Page, error) {
	p := plan.Page{Limit: -1}
	if root.Limit != nil {
		if p.Limit = *root.Limit; p.Limit < 0 {
			return p, pgrst.InvalidRange("Limit should be greater than or equal to zero.")
		}
	}
	if root.Offset != nil {
		if p.Offset = *root.Offset; p.Offset < 0 {
			return p, pgrst.InvalidRange("Offset should be greater than or equal to zero.")
		}
	}
	if r.Method != http.MethodGet || p.Limit == 0 {
		return p, nil
	}
	return intersect(p, r.Header.Get("Range"))
}

// intersect narrows p to a range `first-last` or `first-`, counted from zero.
// What is no such range (`bytes=0-9`, say) is not for us and ignored.
func intersect(p plan.Page, header string) (plan.Page, error) {
	from, to, ok := strings.Cut(header, "-")
	first, err := strconv.ParseInt(from, 10, 63)
	if !ok || err != nil || first < 0 {
		return p, nil
	}
	last := int64(-1)
	if to != "" {
		if last, err = strconv.ParseInt(to, 10, 63); err != nil {
			return p, nil
		}
		if last < first {
			return p, pgrst.InvalidRange("The lower boundary must be lower than or equal to the upper boundary in the Range header.")
		}
	}
	end := int64(-1) // exclusive; negative for none
	if p.Limit >= 0 {
		end = p.Offset + p.Limit
	}
	if last >= 0 && (end < 0 || last+1 < end) {
		end = last + 1
	}
	p.Offset = max(p.Offset, first)
	if end >= 0 {
		if p.Limit = end - p.Offset; p.Limit < 0 {
			return p, pgrst.InvalidRange("Limit should be greater than or equal to zero.")
		}
	}
	return p, nil
}

// contentRange renders `first-last/total`, with stars for what is empty or unknown.
func contentRange(first, last, total int64) string {
	text := "*"
	if total != 0 && first <= last {
		text = strconv.FormatInt(first, 10) + "-" + strconv.FormatInt(last, 10)
	}
	if total < 0 {
		return text + "/*"
	}
	return text + "/" + strconv.FormatInt(total, 10)
}
