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
	header := span{0, -1}
	if r.Method == http.MethodGet {
		if header = rangeOf(r.Header.Get("Range")); header.empty() {
			return plan.Page{}, pgrst.InvalidRange("The lower boundary must be lower than or equal to the upper boundary in the Range header.")
		}
	}
	wanted := span{0, -1}
	if root.Offset != nil {
		wanted.first = clamp(*root.Offset)
	}
	if root.Limit != nil {
		if wanted.end = wanted.first + clamp(*root.Limit); wanted.end == 0 { // limit=0 is no error, whatever the header says
			return plan.Page{Limit: 0}, nil
		}
		if wanted.end < 0 {
			return plan.Page{}, pgrst.InvalidRange(negativeLimit)
		}
	}
	both := span{max(header.first, wanted.first), header.end}
	if wanted.end >= 0 && (both.end < 0 || wanted.end < both.end) {
		both.end = wanted.end
	}
	switch {
	case both.empty():
		return plan.Page{}, pgrst.InvalidRange(negativeLimit)
	case both.end < 0:
		return plan.Page{Offset: both.first, Limit: -1}, nil
	}
	return plan.Page{Offset: both.first, Limit: both.end - both.first}, nil
}

// clamp keeps sums of two from overflowing.
func clamp(n int64) int64 { return min(max(n, -1<<61), 1<<61) }

const negativeLimit = "Limit should be greater than or equal to zero."

// span are rows from first to before end, counted from zero; a negative end is none.
type span struct{ first, end int64 }

func (s span) empty() bool { return s.end >= 0 && s.end <= s.first }

// rangeOf reads `first-last` or `first-`. What is no such range (`bytes=0-9`,
// say) is not for us and ignored.
func rangeOf(header string) span {
	all := span{0, -1}
	from, to, ok := strings.Cut(header, "-")
	if !ok {
		return all
	}
	first, err := strconv.ParseUint(from, 10, 62)
	if err != nil {
		return all
	}
	all.first = int64(first)
	if to == "" {
		return all
	}
	last, err := strconv.ParseUint(to, 10, 62)
	if err != nil {
		return span{0, -1}
	}
	return span{int64(first), int64(last) + 1}
}

// contentRange renders `first-last/total`, with stars for what is empty or unknown.
func contentRange(first, last, total int64) string {
	b := make([]byte, 0, 64)
	if total != 0 && first <= last {
		b = strconv.AppendInt(append(strconv.AppendInt(b, first, 10), '-'), last, 10)
	} else {
		b = append(b, '*')
	}
	if b = append(b, '/'); total < 0 {
		b = append(b, '*')
	} else {
		b = strconv.AppendInt(b, total, 10)
	}
	return string(b)
}
