package rest

import (
	"strings"

	"github.com/freehold-db/freehold/dataplane/rest/pgrst"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// allow lists the verbs that a resource has.
func allow(s *schema.Schema, req *request) (string, error) {
	if req.document != nil {
		return "OPTIONS,GET,HEAD", nil
	}
	if req.Args != nil {
		f, err := plan.Called(s, &req.Request) // as PostgREST has it, by a call without arguments
		switch {
		case err != nil:
			return "", err //nolint:wrapcheck // a fault
		case f.Volatile:
			return "OPTIONS,POST", nil
		}
		return "OPTIONS,GET,HEAD,POST", nil
	}
	r := s.Relation(req.Relation)
	if r == nil {
		return "", pgrst.UnknownTable(req.Relation.Schema, req.Relation.Name, s.SuggestRelation(req.Relation))
	}
	verbs := []string{"OPTIONS", "GET", "HEAD"}
	for _, v := range []struct {
		verb string
		bits int
	}{{"POST", 1 << 3}, {"PUT", 1<<3 | 1<<2}, {"PATCH", 1 << 2}, {"DELETE", 1 << 4}} {
		if r.Writable&v.bits == v.bits && (v.verb != "PUT" || len(r.PrimaryKey) > 0) {
			verbs = append(verbs, v.verb)
		}
	}
	return strings.Join(verbs, ","), nil
}
