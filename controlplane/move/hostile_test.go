package move

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/move/movetest"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// Whoever owns a tenant's schema gets nothing by it: its code runs while the
// tenant is moved, followed, compared, taken back and followed again, and is
// nowhere more than its author is.
func TestMoveGivesATenantsCodeNothing(t *testing.T) {
	for _, to := range []shardmap.ShardID{"b", shardtest.Newer} {
		t.Run(string(to), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a", to)
			db, document := w.tenant("mallory", "a")
			attack := movetest.NewAttack(t, db)
			here, there := w.conn("a", db), func() *pgx.Conn { return w.conn(to, db) }
			attack.CountRuns(t, here)
			script(t, w.asOwnersLogin("a", db, document), attack.SQL())
			nothing := func(when string) {
				t.Log(when)
				attack.RequireNothingGained(t, here)
				attack.RequireNothingGained(t, there())
			}

			op, letGo := w.heldBeforeCutover(Request{Tenant: "mallory", To: to, Soak: time.Hour})
			nothing("copied")
			target, ran := there(), int64(0)
			pgtest.Eventually(t, "its code runs while rows arrive", func() bool { ran = attack.Runs(t, target); return ran > 0 })
			script(t, w.asOwnersLogin("a", db, document), "SET search_path = public; INSERT INTO hostile.t (id, c, d) VALUES (100, 1, 1); UPDATE hostile.t SET c = 5 WHERE id = 3")
			rep := w.verified(VerifyRequest{Of: op.ID})
			require.Empty(t, rep.Differ)
			pgtest.Eventually(t, "its code runs while changes arrive", func() bool { return attack.Runs(t, target) > ran })
			nothing("followed and compared")
			letGo()
			op, rec := w.ended(op)
			require.Equal(t, operation.Done, op.State, op.Error)
			require.Equal(t, Equal, rec.Verification.Final, "%+v", rec.Verification)
			nothing("moved")

			script(t, w.asOwnersLogin(to, db, document), "INSERT INTO hostile.t (id, c, d) VALUES (101, 1, 1)")
			w.requireFollowing(db, to, "a")
			require.Empty(t, w.verified(VerifyRequest{Of: op.ID}).Differ)
			nothing("soaking")
			back, rec := w.ended(w.reverse(op.ID, 0))
			require.Equal(t, operation.Done, back.State, back.Error)
			require.Equal(t, Equal, rec.Verification.Final, "%+v", rec.Verification)
			nothing("taken back")
			require.EqualValues(t, "a", w.requireServedOnce("mallory", "a", to))

			// Had a superuser read one table, it would have been enough.
			tx, err := here.Begin(t.Context())
			require.NoError(t, err)
			defer tx.Rollback(t.Context()) //nolint:errcheck // nothing of it is to stay
			_, err = tx.Exec(t.Context(), "SELECT id FROM hostile.t")
			require.NoError(t, err)
			require.NotEmpty(t, attack.Gained(t, here), "the attack does not work at all")
		})
	}
}

// asOwnersLogin is a session of the login by which owners' SQL runs.
func (w *world) asOwnersLogin(on shardmap.ShardID, db string, document secret.Login) *pgx.Conn {
	w.t.Helper()
	login, err := tenantdb.Owner.From(document, db)
	require.NoError(w.t, err)
	row, err := w.fleet.Shard(w.t.Context(), on)
	require.NoError(w.t, err)
	conn, err := w.server(w.t, on).Channel.Connect(w.t.Context(), row.PostgresHost, row.PostgresPort, db, login)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { closeConn(conn) })
	return conn
}

// A database that stands ajar lets in who copies, and none of its logins.
func TestAjar(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "a")
	ctx := t.Context()
	db, document := w.tenant("ajar", "a")
	server := w.conn("a", "postgres")
	row, err := w.fleet.Shard(ctx, "a")
	require.NoError(t, err)
	enters := func() error {
		conn, err := w.server(t, "a").Channel.Connect(ctx, row.PostgresHost, row.PostgresPort, db, document)
		closeConn(conn)
		return err
	}
	mover, err := w.fleet.Mover(ctx, "a", db)
	require.NoError(t, err)
	require.NoError(t, enters(), "an open database stays open")
	mover.Close()

	require.NoError(t, shard.Fence(ctx, server, db))
	require.Equal(t, "53300", pg.Code(enters()))
	mover, err = w.fleet.Mover(ctx, "a", db)
	require.NoError(t, err)
	fenced, err := shard.Fenced(ctx, server, db)
	require.NoError(t, err)
	require.True(t, fenced)
	require.Equal(t, "42501", pg.Code(enters()))
	temp, _, err := shard.TempLogin(ctx, server, db, shard.AccessOwner, time.Hour)
	require.NoError(t, err)
	_, err = w.server(t, "a").Channel.Connect(ctx, row.PostgresHost, row.PostgresPort, db, temp)
	require.Equal(t, "42501", pg.Code(err), "who gets a login meanwhile is kept out as well")
	conn, err := mover.Connect(ctx, applicationName)
	require.NoError(t, err)
	var is string
	require.NoError(t, conn.QueryRow(ctx, "SELECT current_user").Scan(&is))
	require.Contains(t, is, tenantdb.MoverPrefix(db))
	closeConn(conn)
	mover.Close()
	var left int
	require.NoError(t, server.QueryRow(ctx, "SELECT count(*) FROM pg_roles WHERE starts_with(rolname, $1)", tenantdb.MoverPrefix(db)).Scan(&left))
	require.Zero(t, left, "its login is gone")

	require.NoError(t, shard.Fence(ctx, server, db))
	require.Error(t, enters(), "fenced while it stands ajar")
	require.NoError(t, shard.Unfence(ctx, server, db))
	require.NoError(t, enters())
	conn, err = w.server(t, "a").Channel.Connect(ctx, row.PostgresHost, row.PostgresPort, db, temp)
	require.NoError(t, err)
	closeConn(conn)
}
