package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
)

// tenant is what provisioning leaves on a shard, as far as a request sees it.
const tenant = `
CREATE ROLE "DATABASE";
CREATE ROLE "DATABASE_auth_a" LOGIN NOINHERIT PASSWORD 'VERIFIER' IN ROLE "DATABASE", "DATABASE_rw", "DATABASE_ro";
GRANT CONNECT ON DATABASE "DATABASE" TO "DATABASE_auth_a", freehold_bouncer;
CREATE SCHEMA freehold;
CREATE FUNCTION freehold.lookup(text, OUT usename text, OUT passwd text) RETURNS SETOF record LANGUAGE sql SECURITY DEFINER
  AS 'SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1';
GRANT USAGE ON SCHEMA freehold TO freehold_bouncer;`

// Through a PgBouncer in transaction pooling, where sessions are shared, a
// request leaves nothing behind whether it succeeds, is refused, or is cut off.
func TestThroughPgBouncer(t *testing.T) {
	shard := pgtest.SharedShard(t, "rest")
	ctx := t.Context()
	const database = "t_00000000000000ab"
	admin, err := shard.Channel.Connect(ctx, shard.Host(), shard.PGPort(), "postgres", shard.Admin)
	require.NoError(t, err)
	defer admin.Close(context.Background())
	_, err = admin.Exec(ctx, "CREATE DATABASE "+pg.Ident(database))
	require.NoError(t, err)
	owner, err := shard.Channel.Connect(ctx, shard.Host(), shard.PGPort(), database, shard.Admin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = owner.Close(context.Background()) })
	sample, err := os.ReadFile("testdata/sample.sql")
	require.NoError(t, err)
	login := secret.Login{User: database + "_auth_a", Password: pg.NewPassword()}
	verifier, err := pg.ScramVerifier(login.Password)
	require.NoError(t, err)
	for _, sql := range []string{string(sample), tenant} {
		_, err = owner.Exec(ctx, strings.NewReplacer(`"DATABASE`, `"`+database, "VERIFIER", verifier).Replace(sql), pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err)
	}
	connect := func() *direct {
		config, err := shard.Channel.Config(shard.Host(), shard.BouncerPort(), database, login)
		require.NoError(t, err)
		conn, err := pgconn.ConnectConfig(ctx, &config.Config)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return &direct{conn: conn, database: database}
	}
	var wait sync.WaitGroup
	for n := range 4 {
		a := &api{t: t, owner: owner, router: connect()}
		a.role = access.RoleEditor
		a.use(rest.Options{})
		wait.Go(func() {
			for i := range 50 {
				id := 1000 + n*1000 + i
				insert := a.do(http.MethodPost, "/tasks", fmt.Sprintf(`[{"id":%d},{"id":%d}]`, id, id+500))
				dup := a.do(http.MethodPost, "/nokey", `{"v":`+fmt.Sprint(id)+`}`, full, singular)
				twice := a.do(http.MethodPost, "/tasks", fmt.Sprintf(`[{"id":%d},{"id":1}]`, id+250))
				guarded := a.do(http.MethodDelete, "/tasks", "", singular)
				bad := a.get("/tasks?id=eq.x")
				zone := a.get("/settings?select=who,sub", "Prefer: handling=strict, timezone=Nowhere")
				who := a.get("/settings?select=who,sub,method")
				for name, got := range map[string]bool{
					"insert": insert.Code == 201, "single": dup.Code == 201, "duplicate": twice.Code == 409, "guarded": guarded.Code == 406,
					"bad": bad.Code == 400, "zone": zone.Code == 400,
					"who": who.Body.String() == `[{"who":"`+database+`_rw","sub":"alice","method":"GET"}]`,
				} {
					if !got {
						t.Errorf("%s", name)
					}
				}
			}
		})
	}
	wait.Wait()
	a := &api{t: t, owner: owner}
	require.Equal(t, "403", a.value("SELECT count(*)::text FROM tasks"), "3 + 4 × 50 × 2: what was refused left nothing")
	require.Equal(t, "200", a.value("SELECT count(*)::text FROM nokey"))
	require.Equal(t, "{freehold}", a.value("SELECT array_agg(DISTINCT application_name)::text FROM pg_stat_activity WHERE query <> '' AND usename = '"+login.User+"'"), "PgBouncer has no name to set again")
}
