package clone

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/worldtest"
)

// What a role of the tenant's own owns, and what was granted by whom a right was
// handed on to, is carried, though no
// superuser makes and fills the tables; what the tenant's own roles can't make or
// fill is refused before the copy.
func TestCloneOfRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	db := w.tenant("rights", "a")
	roles := strings.NewReplacer("{owner}", shard.OwnerRole(db), "{rw}", shard.RWRole(db), "{ro}", shard.RORole(db))
	_, err := w.tenantAccess.CreateRole(t.Context(), "rights", "a_tmp_b", "owns a table", worldtest.Tester, "")
	require.NoError(t, err)
	w.AsOwner("a", db, "CREATE TABLE owned (id int PRIMARY KEY); INSERT INTO owned VALUES (1); GRANT CREATE ON SCHEMA public TO "+shard.CustomRole(db, "a_tmp_b"))
	w.Script(w.Conn("a", db), "ALTER TABLE public.owned OWNER TO "+shard.CustomRole(db, "a_tmp_b"))
	w.AsOwner("a", db, roles.Replace("CREATE TABLE handed (id int PRIMARY KEY); GRANT SELECT ON handed TO {rw} WITH GRANT OPTION;"+
		"RESET ROLE; SET ROLE {rw}; GRANT SELECT ON public.handed TO {ro}"))
	schema := w.dump("a", db, "--schema-only")
	w.done(w.clone(Request{Source: "rights", Tenant: "copy", To: "a"}))
	p := w.Placement("copy")
	require.Equal(t, renamed(schema, db, p.Database), w.dump("a", p.Database, "--schema-only"))

	w.AsOwner("a", db, roles.Replace("REVOKE INSERT ON handed FROM {owner}, {rw};"+
		"CREATE SCHEMA frozen; CREATE TABLE frozen.t (id int PRIMARY KEY); REVOKE CREATE ON SCHEMA frozen FROM {owner}"))
	op := w.Ended(w.clone(Request{Source: "rights", Tenant: "none", To: "a"}))
	require.Equal(t, operation.Failed, op.State)
	require.Contains(t, op.Error, "handed: none of the tenant's roles may SELECT from it and INSERT into it")
	require.Contains(t, op.Error, "schema frozen: none of the tenant's roles may CREATE in it")
}
