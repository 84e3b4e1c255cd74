package plan_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/body"
	"github.com/freehold-db/freehold/dataplane/rest/plan"
)

// Rows with different keys that want defaults cost the shard memory for each of
// their values. Some 150 KB of them took all that there was.
func TestDefaultsAreBounded(t *testing.T) {
	for _, c := range []struct {
		table, columns string
		rows           int
		taken          bool
	}{
		{"t", "id,name", 10_000, true},
		{"t", "id,name", 10_001, false},
		{"t", "id", 20_000, true},
		{"u", "id", 2000, true}, // each value is a selection
		{"u", "id", 2001, false},
	} {
		req := request(t, "columns="+c.columns)
		req.Relation.Name, req.Action, req.MissingDefaults = c.table, plan.ActionInsert, true
		var err error
		req.Body, err = body.Parse([]byte(`[{"name":"x"}` + strings.Repeat(`,{"id":1}`, c.rows-1) + `]`))
		require.NoError(t, err)
		_, err = plan.Build(sample(t), req)
		require.Equal(t, c.taken, err == nil, "%+v: %v", c, err)

		req.Body, err = body.Parse([]byte(`[{"id":1}` + strings.Repeat(`,{"id":1}`, c.rows) + `]`))
		require.NoError(t, err)
		_, err = plan.Build(sample(t), req)
		require.NoError(t, err, "with the same keys there is no bound but the body's")
	}
}
