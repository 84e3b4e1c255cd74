package router_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/router"
	"github.com/freehold-db/freehold/shardmap"
)

// site is a real shard as the tests handle it.
type site struct {
	*pgtest.ShardServer
	id shardmap.ShardID
	t  *testing.T
}

func shared(t *testing.T, id shardmap.ShardID) site {
	s := site{pgtest.SharedShard(t, string(id)), id, t}
	s.console("SET query_wait_timeout = 1") // so that a test of it is soon over
	return s
}

func (s site) address() shardmap.Shard {
	return shardmap.Shard{ID: s.id, Host: s.Host(), Port: s.BouncerPort(), Version: 1}
}

// super hands out a connection of the superuser, straight at Postgres.
func (s site) super(database string, use func(ctx context.Context, c *pgx.Conn)) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := s.Channel.Connect(ctx, s.Host(), s.PGPort(), database, s.Admin)
	require.NoError(s.t, err)
	defer func() { _ = c.Close(ctx) }()
	use(ctx, c)
}

func (s site) admin(database string, statements ...string) {
	s.t.Helper()
	s.super(database, func(ctx context.Context, c *pgx.Conn) {
		for _, sql := range statements {
			_, err := c.Exec(ctx, sql)
			require.NoError(s.t, err, sql)
		}
	})
}

func (s site) one(database, sql string) (n int) {
	s.t.Helper()
	s.super(database, func(ctx context.Context, c *pgx.Conn) {
		require.NoError(s.t, c.QueryRow(ctx, sql).Scan(&n))
	})
	return n
}

// console runs a command on PgBouncer's console.
func (s site) console(command string) (rows []map[string]string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cfg, err := s.Channel.Config(s.Host(), s.BouncerPort(), "pgbouncer", s.Console)
	require.NoError(s.t, err)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	c, err := pgx.ConnectConfig(ctx, cfg)
	require.NoError(s.t, err)
	defer func() { _ = c.Close(ctx) }()
	results, err := c.PgConn().Exec(ctx, command).ReadAll()
	require.NoError(s.t, err, command)
	for _, result := range results {
		for _, values := range result.Rows {
			row := map[string]string{}
			for i, field := range result.FieldDescriptions {
				row[field.Name] = string(values[i])
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// build makes a tenant's database at s, with one small table and the login
// that the data plane has, as provisioning does.
func (s site) build(p shardmap.Placement, login secret.Login, verifier string) {
	s.t.Helper()
	x := pg.Ident(p.Database)
	s.admin("postgres",
		"CREATE ROLE "+x, "CREATE ROLE "+pg.Ident(p.Database+"_rw"),
		"CREATE ROLE "+pg.Ident(login.User)+" LOGIN NOINHERIT PASSWORD '"+verifier+"' IN ROLE "+x+", "+pg.Ident(p.Database+"_rw"),
		"CREATE DATABASE "+x, "REVOKE ALL ON DATABASE "+x+" FROM PUBLIC",
		"GRANT CONNECT ON DATABASE "+x+" TO "+pg.Ident(s.Auth.User)+", "+pg.Ident(login.User))
	s.admin(p.Database, "CREATE SCHEMA freehold",
		`CREATE FUNCTION freehold.lookup(text) RETURNS TABLE (usename text, passwd text) LANGUAGE sql SECURITY DEFINER AS
		 $$ SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = $1 AND rolcanlogin AND NOT rolsuper
		    AND pg_has_role(oid, current_database()::name, 'MEMBER') $$`,
		"GRANT USAGE ON SCHEMA freehold TO "+pg.Ident(s.Auth.User),
		"CREATE TABLE note (id bigint PRIMARY KEY, body text)",
		"GRANT ALL ON note TO "+pg.Ident(p.Database+"_rw"))
}

func (s site) fence(p shardmap.Placement) {
	s.admin("postgres", "ALTER DATABASE "+pg.Ident(p.Database)+" CONNECTION LIMIT 0")
	s.evict(p)
}

func (s site) unfence(p shardmap.Placement) {
	s.admin("postgres", "ALTER DATABASE "+pg.Ident(p.Database)+" CONNECTION LIMIT -1")
}

// evict ends every server connection of the tenant's login.
func (s site) evict(p shardmap.Placement) {
	s.admin("postgres", fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s' AND usename LIKE '%s\\_%%'", p.Database, p.Database))
}

// settle waits until PgBouncer has noticed that its server connections are gone.
func (s site) settle(p shardmap.Placement) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		return !slices.ContainsFunc(s.console("SHOW SERVERS"), func(row map[string]string) bool {
			return row["database"] == p.Database && row["user"] != s.Auth.User
		})
	}, 30*time.Second, 5*time.Millisecond)
}

// route points PgBouncer's entry of a database elsewhere; "" removes the entry.
func (s site) route(entry string) {
	require.NoError(s.t, os.WriteFile(s.RoutesFile(), []byte(entry+"\n"), 0o644))
	s.console("RELOAD")
}

var tenants int

// tenant builds one more tenant at the sites given; it lives at the first.
func tenant(t *testing.T, w *world, at ...site) shardmap.Placement {
	t.Helper()
	tenants++
	p := w.settle(1000+tenants, at[0].id, 1)
	login := secret.Login{User: p.Database + "_auth_a", Password: pg.NewPassword()}
	w.mu.Lock()
	w.logins[secret.DatabaseAuth(p.Database)] = login
	for _, s := range at {
		w.shards[s.id] = s.address()
	}
	w.mu.Unlock()
	verifier, err := pg.ScramVerifier(login.Password) // one for all, as a move copies it
	require.NoError(t, err)
	for _, s := range at {
		s.build(p, login, verifier)
	}
	return p
}

// realRouter routes to real servers until the test ends.
func realRouter(t *testing.T, w *world, cfg router.Config) (*router.Router, *shardmap.Map) {
	return routerBy(t, w, cfg, pgtest.Channel(t))
}

// routerBy is realRouter with its connections secured.
func routerBy(t *testing.T, w *world, cfg router.Config, channel *pg.Channel) (*router.Router, *shardmap.Map) {
	m := shardmap.NewMap(shardmap.MapConfig{}, w)
	r := router.New(m, w, cfg, router.WithChannel(channel))
	t.Cleanup(func() { require.NoError(t, r.Close(context.Background())) })
	return r, m
}

// batch runs statements as the data plane does: one batch, one Sync.
func batch(ctx context.Context, c *pgconn.PgConn, role string, statements ...string) error {
	var b pgconn.Batch
	b.ExecParams("SELECT set_config('role', $1, true)", [][]byte{[]byte(role)}, nil, nil, nil)
	for _, sql := range statements {
		b.ExecParams(sql, nil, nil, nil, nil)
	}
	_, err := c.ExecBatch(ctx, &b).ReadAll()
	return err
}

// insert writes note id, and counts how often it was called.
func insert(id int, calls *int) router.Session {
	return func(ctx context.Context, c *router.Conn) error {
		*calls++
		return batch(ctx, c.PG, c.Placement.Database+"_rw", fmt.Sprintf("INSERT INTO note VALUES (%d, 'x')", id))
	}
}

func (s site) notes(p shardmap.Placement) int { return s.one(p.Database, "SELECT count(*) FROM note") }

func TestStatementErrorIsHandedBack(t *testing.T) {
	w := newWorld()
	a := shared(t, "a")
	p := tenant(t, w, a)
	r, _ := realRouter(t, w, router.Config{})
	calls := 0
	for range 2 {
		err := r.Do(t.Context(), p.Tenant, router.ReadWrite, func(ctx context.Context, c *router.Conn) error {
			calls++
			// Words of PgBouncer's out of a tenant's mouth prove nothing.
			return batch(ctx, c.PG, c.Placement.Database+"_rw",
				`DO $$ BEGIN RAISE 'query_wait_timeout' USING ERRCODE = '08P01'; END $$`)
		})
		require.Equal(t, "08P01", pg.Code(err))
		require.NotErrorIs(t, err, router.ErrOutcomeUnknown)
	}
	require.Equal(t, 2, calls)
	require.EqualValues(t, 1, r.Stats().Dials, "an error of the statement's own cost the connection")
}

// The placement flips, with the source fenced, while nobody told the node: a
// write is refused at the old place, looked for again, and done once.
func TestCutoverWithoutHold(t *testing.T) {
	w := newWorld()
	a, b := shared(t, "a"), shared(t, "b")
	p := tenant(t, w, a, b)
	r, m := realRouter(t, w, router.Config{})
	calls := 0
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls)))

	a.fence(p)
	done := make(chan error)
	go func() { done <- r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(2, &calls)) }()
	time.Sleep(300 * time.Millisecond) // the request waits in the old place's PgBouncer
	w.move(p, "b")                     // nobody publishes it: the refusal has to find it
	require.NoError(t, <-done)
	require.Equal(t, 1, a.notes(p))
	require.Equal(t, 1, b.notes(p))
	known, _ := m.Known(p.Tenant)
	require.EqualValues(t, 2, known.Epoch)
	require.NotZero(t, r.Stats().Refused)
}

// A cutover that is given up: fenced, then open again.
func TestFenceLifted(t *testing.T) {
	w := newWorld()
	a := shared(t, "a")
	p := tenant(t, w, a)
	r, _ := realRouter(t, w, router.Config{})
	calls := 0
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls)))
	a.fence(p)
	done := make(chan error)
	for i := range 3 {
		go func() { n := 0; done <- r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(2+i, &n)) }()
	}
	time.Sleep(300 * time.Millisecond)
	a.unfence(p)
	for range 3 {
		require.NoError(t, <-done)
	}
	require.Equal(t, 4, a.notes(p))
}

// Paused, repointed and resumed, PgBouncer carries the request to the target.
func TestPausedAndRepointed(t *testing.T) {
	w := newWorld()
	a, b := shared(t, "a"), shared(t, "b")
	p := tenant(t, w, a, b)
	r, _ := realRouter(t, w, router.Config{})
	calls := 0
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls)))
	a.console("PAUSE " + p.Database)
	done := make(chan error)
	go func() { done <- r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(2, &calls)) }()
	time.Sleep(200 * time.Millisecond)
	a.route(fmt.Sprintf("%s = host=%s port=%d auth_user=%s", p.Database, b.Host(), b.PGPort(), b.Auth.User))
	a.console("RESUME " + p.Database)
	require.NoError(t, <-done)
	require.Equal(t, 1, a.notes(p))
	require.Equal(t, 1, b.notes(p))
	a.route("")
	before := calls // two, and more where the pause outlasted query_wait_timeout
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(3, &calls)), "PgBouncer parted from its idle client")
	require.Equal(t, before+1, calls)
}

func TestLoginIsReadAgainAfterARefusal(t *testing.T) {
	w := newWorld()
	a := shared(t, "a")
	p := tenant(t, w, a)
	r, _ := realRouter(t, w, router.Config{IdleAfter: 50 * time.Millisecond})
	calls := 0
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls)))
	rotated := secret.Login{User: p.Database + "_auth_a", Password: pg.NewPassword()}
	verifier, err := pg.ScramVerifier(rotated.Password)
	require.NoError(t, err)
	a.admin("postgres", "ALTER ROLE "+pg.Ident(rotated.User)+" PASSWORD '"+verifier+"'")
	a.evict(p)
	w.mu.Lock()
	w.logins[secret.DatabaseAuth(p.Database)] = rotated
	w.mu.Unlock()
	require.Eventually(t, func() bool { return r.Stats().Open == 0 }, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(2, &calls)))
	require.Equal(t, 2, a.notes(p))
}

// A routing bug ends in a refused login.
func TestAnotherTenantsDatabase(t *testing.T) {
	w := newWorld()
	a := shared(t, "a")
	mine, theirs := tenant(t, w, a), tenant(t, w, a)
	w.mu.Lock()
	w.logins[secret.DatabaseAuth(theirs.Database)] = w.logins[secret.DatabaseAuth(mine.Database)]
	w.mu.Unlock()
	r, _ := realRouter(t, w, router.Config{RetryFor: 500 * time.Millisecond})
	calls := 0
	err := r.Do(t.Context(), theirs.Tenant, router.ReadWrite, insert(1, &calls))
	require.ErrorIs(t, err, router.ErrUnreachable)
	require.Zero(t, calls)
	require.NotContains(t, err.Error(), w.logins[secret.DatabaseAuth(mine.Database)].Password)
	require.False(t, strings.Contains(fmt.Sprintf("%+v", err), w.logins[secret.DatabaseAuth(mine.Database)].Password))
}

func TestCancelledWrite(t *testing.T) {
	w := newWorld()
	a := shared(t, "a")
	p := tenant(t, w, a)
	r, _ := realRouter(t, w, router.Config{})
	for access, unknown := range map[router.Access]bool{router.ReadWrite: true, router.ReadOnly: false} {
		ctx, cancel := context.WithCancel(t.Context())
		done, slow := make(chan error, 1), fmt.Sprintf("SELECT pg_sleep(60), 'cancelled, of access %d'", access)
		go func() {
			done <- r.Do(ctx, p.Tenant, access, func(ctx context.Context, c *router.Conn) error {
				return batch(ctx, c.PG, c.Placement.Database+"_rw", slow)
			})
		}()
		a.underWay(slow)
		cancel()
		err := <-done
		require.ErrorIs(t, err, context.Canceled)
		if unknown {
			require.ErrorIs(t, err, router.ErrOutcomeUnknown)
		} else {
			require.NotErrorIs(t, err, router.ErrOutcomeUnknown)
		}
	}
	calls := 0
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls)))
}

// A node that nobody told of new logins learns of them from being refused: by
// PgBouncer when it opens a connection, and on those that it has open. Nothing
// that it was asked for fails.
func TestLoginsClosedUnderANodeThatWasNotTold(t *testing.T) {
	w := newWorld()
	s := shared(t, "a")
	p := tenant(t, w, s)
	r, _ := realRouter(t, w, router.Config{})
	old := w.logins[secret.DatabaseAuth(p.Database)]
	written, calls := 0, 0
	write := func() {
		t.Helper()
		written++
		require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(written, &calls)))
	}
	turns := 0
	for _, login := range []string{"_auth_b", "_auth_a"} {
		write()
		next := secret.Login{User: p.Database + login, Password: pg.NewPassword(), Generation: old.Generation + 1}
		verifier, err := pg.QuickVerifier(next.Password)
		require.NoError(t, err)
		create := "CREATE ROLE " + pg.Ident(next.User) + " LOGIN NOINHERIT PASSWORD '" + verifier + "' IN ROLE " + pg.Ident(p.Database) + ", " + pg.Ident(p.Database+"_rw")
		if turns++; turns > 1 {
			create = "ALTER ROLE " + pg.Ident(next.User) + " LOGIN PASSWORD '" + verifier + "'"
		}
		s.admin("postgres", create, "GRANT CONNECT ON DATABASE "+pg.Ident(p.Database)+" TO "+pg.Ident(next.User))
		w.mu.Lock()
		w.logins[secret.DatabaseAuth(p.Database)] = next
		w.mu.Unlock()
		s.admin("postgres", "ALTER ROLE "+pg.Ident(old.User)+" NOLOGIN PASSWORD NULL", "REVOKE CONNECT ON DATABASE "+pg.Ident(p.Database)+" FROM "+pg.Ident(old.User),
			"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+old.User+"'")
		pgtest.Eventually(t, "the old sessions are gone", func() bool {
			return s.one("postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = '"+old.User+"'") == 0
		})
		began := time.Now()
		write()
		t.Logf("over to %s in %v", next.User, time.Since(began).Round(time.Millisecond))
		write()
		old = next
	}
	require.Equal(t, written, s.notes(p))
	require.Zero(t, r.Stats().Unknown)
}
