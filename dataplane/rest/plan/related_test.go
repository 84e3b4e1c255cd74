package plan_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
	"github.com/freehold-db/freehold/dataplane/rest/schema"
)

// What a write finds its rows by is read although nothing is answered with: by
// whether there were some it tells what is there.
func TestRelatedOfWrites(t *testing.T) {
	for raw, want := range map[string][]string{
		"id=eq.1":               nil,
		"select=id,u()&id=eq.1": nil, // left out where nothing is answered with
		"select=id,u(id)&u=not.is.null&u.id=eq.1":              {"u"},
		"select=id,u()&or=(id.eq.1,and(id.gt.1,u.is.null))":    {"u"},
		"select=id,u(id,t())&u=is.null&u.t=not.is.null":        {"u", "t"},
		"select=id,a:u(id)&not.or=(a.is.null,id.eq.1)&id=lt.3": {"u"},
	} {
		for _, action := range []plan.Action{plan.ActionUpdate, plan.ActionDelete} {
			req := request(t, raw)
			req.Action = action
			var err error
			req.Body, err = body.Parse([]byte(`{"name":"x"}`))
			require.NoError(t, err)
			p, err := plan.Build(sample(t), req)
			require.NoError(t, err, raw)
			var met []string
			require.NoError(t, p.Related(func(n schema.Name) error { met = append(met, n.Name); return nil }))
			require.Equal(t, want, met, raw)

			refusal := errors.New("no")
			err = p.Related(func(schema.Name) error { return refusal })
			require.Equal(t, want != nil, errors.Is(err, refusal), raw)
		}
	}
}
