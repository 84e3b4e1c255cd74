package rest

import (
	"slices"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// exposure is which schemas a request may choose from, and what follows from that.
type exposure struct {
	names []string // the first is the default
	of    *schema.Exposed
	// searchPath is the session's search_path by the schema chosen.
	searchPath map[string][]byte
}

// Exposable tells whether a schema can be exposed: those of Postgres and of the
// platform can't, whatever any configuration says.
func Exposable(name string) bool {
	return name != "" && !strings.HasPrefix(name, "pg_") && !slices.Contains([]string{"information_schema", "freehold", "migrations"}, name)
}

// maxExposures bounds the different lists of schemas that are remembered.
const maxExposures = 1000

// exposures are those of tenants with a list of their own.
type exposures struct {
	fleet *exposure
	extra []string // more of every search_path
	own   *lru.Cache[string, *exposure]
}

func newExposures(schemas, extra []string) *exposures {
	own, err := lru.New[string, *exposure](maxExposures)
	if err != nil { // the size is positive
		panic("rest: " + err.Error())
	}
	e := &exposures{extra: extra, own: own}
	if e.fleet = e.expose(schemas); len(e.fleet.names) == 0 {
		e.fleet = e.expose([]string{"public"})
	}
	return e
}

// of finds the exposure of a tenant whose own list is names; of one without, it is the fleet's.
func (e *exposures) of(names []string) *exposure {
	if len(names) == 0 {
		return e.fleet
	}
	list := strings.Join(names, "\x00")
	if x, ok := e.own.Get(list); ok {
		return x
	}
	x := e.expose(names)
	if len(x.names) == 0 {
		x = e.fleet
	}
	e.own.Add(list, x)
	return x
}

func (e *exposures) expose(names []string) *exposure {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !Exposable(name) })
	x := &exposure{names: names, of: schema.Expose(names), searchPath: map[string][]byte{}}
	for _, name := range names {
		path := []string{quote(name)}
		for _, extra := range e.extra {
			if extra != name && extra != "" {
				path = append(path, quote(extra))
			}
		}
		x.searchPath[name] = []byte(strings.Join(path, ", "))
	}
	return x
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
