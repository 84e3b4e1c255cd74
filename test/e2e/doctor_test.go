package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// A fleet as it is brought up has nothing for the doctor to find, neither in how
// its servers are set up nor at tenants; what somebody opens is found, and the
// remedy is one. What other tests do to theirs is left out.
func TestDoctorFindsNothingAsBroughtUp(t *testing.T) {
	pair(t, "dora", "doug")
	var ours []string
	for _, id := range []string{"dora", "doug"} {
		place, err := shared.Admin.Placement(t.Context(), id)
		require.NoError(t, err)
		ours = append(ours, place.Database)
	}
	setUp := []string{"setting", "hba", "hba-method", "hba-tls", "hba-wall", "tls", "pgbouncer", "template", "secret-store", "weak-verifier", "role-attributes", "unreachable"}
	look := func() (found []api.SecurityFinding) {
		r, err := shared.Admin.DoctorSecurity(t.Context(), "s1", true)
		require.NoError(t, err)
		require.GreaterOrEqual(t, r.Looked, 2)
		for _, f := range r.Findings {
			if slices.Contains(setUp, f.Check) || slices.ContainsFunc(ours, func(db string) bool { return strings.HasPrefix(f.Where, db) }) {
				found = append(found, f)
			}
		}
		return found
	}
	require.Empty(t, look())
	conn := shared.Postgres(t, "s1", "postgres")
	_, err := conn.Exec(t.Context(), "GRANT CONNECT ON DATABASE "+ours[0]+" TO PUBLIC")
	require.NoError(t, err)
	found := look()
	require.Len(t, found, 1)
	require.Equal(t, "public-grant", found[0].Check)
	require.Equal(t, ours[0], found[0].Where)
	_, err = conn.Exec(t.Context(), found[0].Remedy)
	require.NoError(t, err)
	require.Empty(t, look(), "the remedy is one")
}
