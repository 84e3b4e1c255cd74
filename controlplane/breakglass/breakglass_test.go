package breakglass_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/breakglass"
	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/controlplane/shard/shardtest"
	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/shardmap"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var alice = catalog.Actor{Name: "oidc:corp/alice", Role: "admin", Reason: "INC-42", Address: "192.0.2.1"}

// world is the tenant acme on shard a, beside which there is b.
type world struct {
	t        testing.TB
	fleet    *shardtest.Fleet
	store    *catalog.Store
	dsn      string
	database string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, fleet: shardtest.New(t, "../../deploy/sample", "a", "b")}
	w.store, w.dsn = catalogtest.OpenDSN(t)
	var b [8]byte
	_, err := rand.Read(b[:])
	require.NoError(t, err)
	w.database = "t_" + hex.EncodeToString(b[:])
	w.fleet.Database(t, "a", w.database)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		for _, id := range []shardmap.ShardID{"a", "b"} {
			if _, err := w.store.AddShard(ctx, tx, w.fleet.Rows[id]); err != nil {
				return err
			}
		}
		if err := w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: "a", Name: w.database, State: catalog.DatabaseBuilding}); err != nil {
			return err
		}
		_, err := w.store.CreateTenant(ctx, tx, "acme", "Acme", "a", w.database)
		return err
	})
	return w
}

func (w *world) service(store *catalog.Store) *breakglass.Service {
	return breakglass.New(store, breakglass.AtShards(w.fleet.Fleet), breakglass.Options{Every: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
}

// run has a replica look after what is open until the test ends or the returned function is called.
func (w *world) run(s *breakglass.Service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	ended := false
	stop = func() {
		if !ended {
			ended = true
			cancel()
			require.NoError(w.t, <-done)
		}
	}
	w.t.Cleanup(stop)
	return stop
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

func (w *world) connect(a *breakglass.Access, on shardmap.ShardID) (*pgx.Conn, error) {
	return w.fleet.Channel.Connect(w.ctx(), w.fleet.Rows[on].PostgresHost, w.fleet.Rows[on].PostgresPort, w.database, a.Login)
}

func (w *world) onServer(on shardmap.ShardID, sql string, args ...any) (n int) {
	w.t.Helper()
	conn, err := w.fleet.Admin(w.ctx(), on, "postgres")
	require.NoError(w.t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	require.NoError(w.t, conn.QueryRow(w.ctx(), sql, args...).Scan(&n))
	return n
}

const roles = "SELECT count(*) FROM pg_roles WHERE rolname = $1"

func (w *world) records() (actions []string) {
	w.t.Helper()
	rows, err := w.store.Pool().Query(w.ctx(), `select record->>'Action' from audit_outbox where record->>'Tenant' = 'acme' order by id`)
	require.NoError(w.t, err)
	actions, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(w.t, err)
	return actions
}

// overdue has an access' time be over at the server and in the catalog.
func (w *world) overdue(b breakglass.Session, on shardmap.ShardID) {
	w.t.Helper()
	conn, err := w.fleet.Admin(w.ctx(), on, "postgres")
	require.NoError(w.t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	_, err = conn.Exec(w.ctx(), "ALTER ROLE "+pg.Ident(b.Login)+" VALID UNTIL '2000-01-01'")
	require.NoError(w.t, err)
	_, err = w.store.Pool().Exec(w.ctx(), `update break_glass set expires_at = clock_timestamp() where id = $1`, b.ID)
	require.NoError(w.t, err)
}

func TestWhatALoginMayDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(w.store)
	for as, c := range map[shard.Access]struct{ write, change bool }{shard.AccessRO: {false, false}, shard.AccessRW: {true, false}, shard.AccessOwner: {true, true}} {
		b, access, err := s.Ask(w.ctx(), breakglass.Spec{Tenant: "acme", As: as}, alice, alice.Name)
		require.NoError(t, err)
		require.Equal(t, breakglass.Open, b.State)
		conn, err := w.connect(access, "a")
		require.NoError(t, err)
		_, err = conn.Exec(w.ctx(), "SELECT count(*) FROM customers")
		require.NoError(t, err)
		_, err = conn.Exec(w.ctx(), "INSERT INTO customers (name) VALUES ('x')")
		require.Equal(t, !c.write, pg.Code(err) == pgerrcode.InsufficientPrivilege, "%s: %v", as, err)
		_, err = conn.Exec(w.ctx(), "ALTER TABLE customers ADD COLUMN IF NOT EXISTS note text")
		require.Equal(t, !c.change, pg.Code(err) == pgerrcode.InsufficientPrivilege, "%s: %v", as, err)
		// Nobody makes his own time longer.
		_, err = conn.Exec(w.ctx(), "ALTER ROLE "+pg.Ident(access.Login.User)+" VALID UNTIL 'infinity'")
		require.Equal(t, pgerrcode.InsufficientPrivilege, pg.Code(err), "%s: %v", as, err)
		require.NoError(t, conn.Close(w.ctx()))
		_, err = s.End(w.ctx(), b.ID, alice)
		require.NoError(t, err)
	}
	for _, bad := range []breakglass.Spec{{Tenant: "acme", As: "root"}, {Tenant: "acme", For: -time.Second}, {Tenant: "acme", For: 9 * time.Hour}} {
		_, _, err := s.Ask(w.ctx(), bad, alice, alice.Name)
		require.ErrorIs(t, err, breakglass.ErrInvalid)
	}
	_, _, err := s.Ask(w.ctx(), breakglass.Spec{Tenant: "acme"}, catalog.Actor{Name: "x"}, "x")
	require.ErrorIs(t, err, breakglass.ErrNoReason)
	_, _, err = s.Ask(w.ctx(), breakglass.Spec{Tenant: "nobody"}, alice, alice.Name)
	require.ErrorIs(t, err, catalog.ErrNotFound)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		_, err := w.store.SetTenantState(ctx, tx, "acme", []shardmap.State{shardmap.Active}, shardmap.Suspended, nil)
		return err
	})
	_, _, err = s.Ask(w.ctx(), breakglass.Spec{Tenant: "acme"}, alice, alice.Name)
	require.ErrorIs(t, err, catalog.ErrConflict)
}

// Its time over, a login opens nothing, with the control plane dead; and the
// next replica that lives, through a catalog that comes and goes, ends its session and what is left of it.
func TestALoginEndsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, access, err := w.service(w.store).Ask(w.ctx(), breakglass.Spec{Tenant: "acme"}, alice, alice.Name)
	require.NoError(t, err)
	session, err := w.connect(access, "a")
	require.NoError(t, err)
	defer session.Close(w.ctx()) //nolint:errcheck // the server ends it

	stop := w.run(w.service(w.store))
	pgtest.Eventually(t, "the session is on record", func() bool {
		got, err := w.service(w.store).Get(w.ctx(), b.ID)
		require.NoError(t, err)
		return got.Sessions == 1 && got.LastUsedAt != nil
	})
	stop() // as if killed
	w.overdue(b, "a")
	_, err = w.connect(access, "a")
	require.Error(t, err, "the server refuses it by itself")
	require.Equal(t, 1, w.onServer("a", roles, b.Login))

	proxy := catalogtest.NewProxy(t, w.dsn)
	store, err := catalog.Open(w.ctx(), proxy.DSN)
	require.NoError(t, err)
	t.Cleanup(store.Close)
	proxy.Cut()
	w.run(w.service(store))
	require.Error(t, func() error { _, err := store.GetTenant(w.ctx(), "acme"); return err }(), "the catalog is away")
	proxy.Restore()
	pgtest.Eventually(t, "it has ended", func() bool {
		got, err := w.service(w.store).Get(w.ctx(), b.ID)
		require.NoError(t, err)
		return got.State == breakglass.Ended && got.Cause == "expired"
	})
	require.Zero(t, w.onServer("a", roles, b.Login))
	_, err = session.Exec(w.ctx(), "SELECT 1")
	require.Error(t, err, "the session is ended")
	require.Equal(t, []string{"break-glass.ask", "break-glass.open", "break-glass.use", "break-glass.end"}, w.records())
}

// What was asked for with a token, or by right of bindings, ends when these are
// taken back; and no sooner than the last of the bindings.
func TestAnAccessEndsWithWhatItHangsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		tag, err := w.store.Pool().Exec(w.ctx(), sql, args...)
		require.NoError(t, err)
		require.EqualValues(t, 1, tag.RowsAffected())
	}
	exec(`insert into access_tokens (id, name, digest, grants, made_by, root, expires_at)
		values ('0000000000aa', 'ci', sha256('x'), '[]', 'alice', 'alice', clock_timestamp() + interval '1 day')`)
	for _, id := range []string{"0000000000b1", "0000000000b2"} {
		exec(`insert into role_bindings (id, issuer, kind, subject, role_grant, made_by) values ($1, 'corp', 'user', 'alice', '{}', 'bob')`, id)
	}
	ask := func(spec breakglass.Spec) (breakglass.Session, *pgx.Conn) {
		spec.Tenant = "acme"
		b, access, err := w.service(w.store).Ask(w.ctx(), spec, alice, alice.Name)
		require.NoError(t, err)
		session, err := w.connect(access, "a")
		require.NoError(t, err)
		t.Cleanup(func() { _ = session.Close(context.Background()) })
		return b, session
	}
	byToken, one := ask(breakglass.Spec{Token: "0000000000aa"})
	byBinding, two := ask(breakglass.Spec{Bindings: []string{"0000000000b1", "0000000000b2"}})
	own, three := ask(breakglass.Spec{})
	exec(`delete from role_bindings where id = '0000000000b1'`)
	exec(`update access_tokens set revoked_at = clock_timestamp(), revoked_by = 'bob'`)
	w.run(w.service(w.store))
	ended := func(b breakglass.Session, session *pgx.Conn) {
		t.Helper()
		pgtest.Eventually(t, "it has ended", func() bool {
			got, err := w.service(w.store).Get(w.ctx(), b.ID)
			require.NoError(t, err)
			return got.State == breakglass.Ended && got.Cause == "revoked"
		})
		require.Zero(t, w.onServer("a", roles, b.Login))
		require.Error(t, session.Ping(w.ctx()))
	}
	ended(byToken, one)
	require.NoError(t, two.Ping(w.ctx()), "the other binding still gives it")
	exec(`delete from role_bindings where id = '0000000000b2'`)
	ended(byBinding, two)
	got, err := w.service(w.store).Get(w.ctx(), own.ID)
	require.NoError(t, err)
	require.Equal(t, breakglass.Open, got.State)
	require.NoError(t, three.Ping(w.ctx()))
}

// endFirst ends an access at the moment when its login is about to be made.
type endFirst struct {
	breakglass.Servers
	end func()
}

func (e endFirst) Make(ctx context.Context, on shardmap.ShardID, database, user string, as shard.Access, ttl time.Duration) (secret.Login, time.Time, error) {
	e.end()
	return e.Servers.Make(ctx, on, database, user, as, ttl)
}

// Who ends an access while it is being opened has ended it: no login is left or handed out.
func TestAnEndOvertakesTheOpening(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := w.service(w.store)
	var ended breakglass.Session
	servers := endFirst{breakglass.AtShards(w.fleet.Fleet), func() {
		live, _, err := other.List(w.ctx(), breakglass.Filter{Live: true}, catalog.Page{Limit: 10})
		require.NoError(t, err)
		require.Len(t, live, 1)
		ended, err = other.End(w.ctx(), live[0].ID, catalog.Actor{Name: "bob", Role: "admin", Reason: "enough"})
		require.NoError(t, err)
		require.Equal(t, breakglass.Ended, ended.State)
	}}
	s := breakglass.New(w.store, servers, breakglass.Options{Logger: slog.New(slog.DiscardHandler)})
	_, access, err := s.Ask(w.ctx(), breakglass.Spec{Tenant: "acme"}, alice, alice.Name)
	require.ErrorIs(t, err, catalog.ErrConflict)
	require.Nil(t, access)
	require.Zero(t, w.onServer("a", roles, ended.Login))
}

// Nor is one handed out if the token that it is asked with is revoked meanwhile, whoever looks after what is open.
func TestARevocationOvertakesTheOpening(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	exec := func(sql string) {
		_, err := w.store.Pool().Exec(w.ctx(), sql)
		require.NoError(t, err)
	}
	exec(`insert into access_tokens (id, name, digest, grants, made_by, root, expires_at)
		values ('0000000000aa', 'ci', sha256('x'), '[]', 'alice', 'alice', clock_timestamp() + interval '1 day')`)
	servers := endFirst{breakglass.AtShards(w.fleet.Fleet), func() { exec(`update access_tokens set revoked_at = clock_timestamp(), revoked_by = 'bob'`) }}
	s := breakglass.New(w.store, servers, breakglass.Options{Logger: slog.New(slog.DiscardHandler)})
	b, access, err := s.Ask(w.ctx(), breakglass.Spec{Tenant: "acme", Token: "0000000000aa"}, alice, alice.Name)
	require.ErrorIs(t, err, catalog.ErrConflict)
	require.Nil(t, access)
	require.Equal(t, "revoked", b.Cause)
	require.Zero(t, w.onServer("a", roles, b.Login))
}

// A move in between takes nothing out of reach: the login goes wherever it is.
func TestAnEndFindsTheLoginWhereverItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.service(w.store)
	b, access, err := s.Ask(w.ctx(), breakglass.Spec{Tenant: "acme", As: shard.AccessRW}, alice, alice.Name)
	require.NoError(t, err)
	before, err := w.connect(access, "a")
	require.NoError(t, err)
	defer before.Close(w.ctx()) //nolint:errcheck // the server ends it
	// The tenant is moved, and somebody carried the login along.
	shardtest.New(t, "../../deploy/sample", "b").Database(t, "b", w.database)
	conn, err := w.fleet.Admin(w.ctx(), "b", "postgres")
	require.NoError(t, err)
	defer conn.Close(w.ctx()) //nolint:errcheck // nothing is lost with it
	moved, _, err := shard.TempLoginAs(w.ctx(), conn, w.database, b.Login, shard.AccessRW, time.Hour)
	require.NoError(t, err)
	catalogtest.Tx(t, w.store, func(ctx context.Context, tx pgx.Tx) error {
		at, err := w.store.LockTenant(ctx, tx, "acme")
		if err != nil {
			return err
		}
		if err := w.store.InsertDatabase(ctx, tx, catalog.Database{Shard: "b", Name: w.database, State: catalog.DatabaseTarget, Tenant: "acme"}); err != nil {
			return err
		}
		_, err = w.store.FlipPlacement(ctx, tx, "acme", at.Placement, "b")
		return err
	})
	after, err := w.connect(&breakglass.Access{Login: moved}, "b")
	require.NoError(t, err)
	defer after.Close(w.ctx()) //nolint:errcheck // the server ends it

	ended, err := s.End(w.ctx(), b.ID, catalog.Actor{Name: "bob", Role: "admin", Reason: "enough"})
	require.NoError(t, err)
	require.Equal(t, breakglass.Ended, ended.State)
	require.Equal(t, "bob", ended.EndedBy)
	for _, on := range []shardmap.ShardID{"a", "b"} {
		require.Zero(t, w.onServer(on, roles, b.Login), on)
	}
	for _, session := range []*pgx.Conn{before, after} {
		_, err = session.Exec(w.ctx(), "SELECT 1")
		require.Error(t, err)
	}
	again, err := s.End(w.ctx(), b.ID, alice)
	require.NoError(t, err)
	require.Equal(t, "bob", again.EndedBy, "what has ended stays as it ended")
	_, _, err = s.Open(w.ctx(), b.ID, alice)
	require.ErrorIs(t, err, catalog.ErrConflict)
}

// stuck is a server that does not answer who drops some logins.
type stuck struct {
	breakglass.Servers
	logins map[string]bool
}

func (s stuck) Drop(ctx context.Context, on shardmap.ShardID, database, user string) error {
	if s.logins[user] {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Servers.Drop(ctx, on, database, user)
}

// An access at a server that does not answer keeps no other from being ended.
func TestWhatCannotBeEndedKeepsNothingOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers := stuck{breakglass.AtShards(w.fleet.Fleet), map[string]bool{}}
	s := breakglass.New(w.store, servers, breakglass.Options{Every: 50 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	ask := func() breakglass.Session {
		b, _, err := s.Ask(w.ctx(), breakglass.Spec{Tenant: "acme"}, alice, alice.Name)
		require.NoError(t, err)
		return b
	}
	for range 20 {
		servers.logins[ask().Login] = true
	}
	_, err := w.store.Pool().Exec(w.ctx(), `update break_glass set state = 'ending', ended_by = 'bob', end_cause = 'ended', expires_at = clock_timestamp()`)
	require.NoError(t, err)
	b := ask()
	_, err = w.store.Pool().Exec(w.ctx(), `update break_glass set token = 'gone' where id = $1`, b.ID)
	require.NoError(t, err)
	w.run(s)
	pgtest.Eventually(t, "it has ended", func() bool {
		got, err := s.Get(w.ctx(), b.ID)
		require.NoError(t, err)
		return got.State == breakglass.Ended
	})
	require.Zero(t, w.onServer("a", roles, b.Login))
}
