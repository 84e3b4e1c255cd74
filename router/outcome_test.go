package router_test

import (
	"context"
	"errors"
	"fmt"
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

// private returns a shard that the test may mistreat.
func private(t *testing.T, id shardmap.ShardID) site { return site{pgtest.Shard(t), id, t} }

// client is one client of s's PgBouncer, as the router's connections are.
func (s site) client(w *world, p shardmap.Placement) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	login := w.logins[secret.DatabaseAuth(p.Database)]
	cfg, err := s.Channel.Config(s.Host(), s.BouncerPort(), p.Database, login)
	require.NoError(s.t, err)
	c, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err == nil {
		s.t.Cleanup(func() { _ = c.Close(context.Background()); <-c.CleanupDone() })
	}
	return c, err
}

const (
	waited  = "FATAL 08P01 query_wait_timeout"
	failing = "FATAL 08P01 server login has been failing, try again later (server_login_retry)"
	removed = "FATAL 08P01 database removed"
	ended   = "FATAL 57P01 terminating connection due to administrator command"
)

// said is what the server said, or "served", or "broken".
func said(err error) string {
	var e *pgconn.PgError
	switch {
	case err == nil:
		return "served"
	case errors.As(err, &e):
		return e.Severity + " " + e.Code + " " + e.Message
	default:
		return "broken"
	}
}

// underWay waits until a statement of just this text is being executed. It must
// be nobody else's, nor an earlier one's: a backend whose client is gone sleeps on.
func (s site) underWay(statement string) {
	s.t.Helper()
	s.super("postgres", func(ctx context.Context, c *pgx.Conn) {
		pgtest.Eventually(s.t, statement, func() (active bool) {
			err := c.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = $1 AND state = 'active')", statement).Scan(&active)
			require.NoError(s.t, err)
			return active
		})
	})
}

// TestWhatAClientSees keeps the table in outcome.go true: what PgBouncer and
// Postgres say in each state, and whether the statement was executed.
func TestWhatAClientSees(t *testing.T) {
	w := newWorld()
	s := private(t, "seen")
	p := tenant(t, w, s)
	note := 0 // the last one that a client tried to write
	write := func(c *pgconn.PgConn) error {
		note++
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return batch(ctx, c, p.Database+"_rw", fmt.Sprintf("INSERT INTO note VALUES (%d, 'x')", note))
	}
	sound := func() *pgconn.PgConn { // a client that was served a moment ago
		var c *pgconn.PgConn
		require.Eventually(t, func() bool {
			var err error
			c, err = s.client(w, p)
			return err == nil && batch(t.Context(), c, p.Database+"_rw") == nil
		}, 30*time.Second, 20*time.Millisecond)
		return c
	}
	// during returns what a client with a statement under way gets when act happens.
	during := func(act func()) string {
		c, got := sound(), make(chan error, 1)
		note++
		statement := fmt.Sprintf("INSERT INTO note SELECT %d, pg_sleep(60)::text", note)
		go func() { got <- batch(t.Context(), c, p.Database+"_rw", statement) }()
		s.underWay(statement)
		act()
		return said(<-got)
	}
	// inVain returns what a client gets that is not served. Others have all the time
	// that a busy machine takes to make a connection.
	inVain := func(c *pgconn.PgConn) string {
		s.console("SET query_wait_timeout = 1")
		defer s.console("SET query_wait_timeout = 60") // lost at a restart
		return said(write(c))
	}
	s.console("SET query_wait_timeout = 60")
	written := func() int { return s.one(p.Database, fmt.Sprintf("SELECT count(*) FROM note WHERE id = %d", note)) }
	expect := func(what, want, got string, executed int) {
		t.Helper()
		require.Equal(t, want, got, what)
		require.Equal(t, executed, written(), what)
	}

	c1, c2 := sound(), sound()
	s.admin("postgres", "ALTER DATABASE "+pg.Ident(p.Database)+" CONNECTION LIMIT 0")
	expect("fenced, a server connection open", "served", said(write(c1)), 1)
	s.evict(p)
	s.settle(p)
	expect("fenced, server connections ended", waited, inVain(c1), 0)
	expect("fenced, once a login has failed", failing, said(write(c2)), 0)
	s.unfence(p)
	c1 = sound()
	s.evict(p)
	s.settle(p)
	expect("backend ended while idle", "served", said(write(c1)), 1)
	expect("backend ended under a statement", ended, during(func() { s.evict(p) }), 0)

	c1 = sound()
	s.console("PAUSE " + p.Database)
	expect("paused", waited, inVain(c1), 0)
	s.console("RESUME " + p.Database)

	c1 = sound()
	s.console("KILL " + p.Database)
	expect("killed, idle", removed, said(write(c1)), 0)
	s.console("RESUME " + p.Database)
	expect("killed, a statement under way", removed, during(func() { s.console("KILL " + p.Database) }), 0)
	s.console("RESUME " + p.Database)

	c1 = sound()
	s.evict(p)
	x := pg.Ident(p.Database)
	require.Eventually(t, func() bool { // PgBouncer's own look-ups come and go
		s.admin("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+p.Database+"'")
		return s.one("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = '"+p.Database+"'") == 0
	}, 30*time.Second, time.Millisecond)
	s.admin("postgres", "ALTER DATABASE "+x+" RENAME TO gone")
	got := inVain(c1)
	s.admin("postgres", "ALTER DATABASE gone RENAME TO "+x)
	expect("gone", waited, got, 0)

	right := w.logins[secret.DatabaseAuth(p.Database)]
	sound()
	for login, want := range map[secret.Login]string{
		{User: right.User, Password: "wrong"}:                "FATAL 08P01 SASL authentication failed",
		{User: "t_ffffffffffffffff_auth_a", Password: "any"}: "FATAL 08P01 no such user",
	} {
		w.logins[secret.DatabaseAuth(p.Database)] = login
		_, err := s.client(w, p)
		require.Equal(t, want, said(err))
	}
	w.logins[secret.DatabaseAuth(p.Database)] = right

	c1 = sound()
	require.NoError(t, s.Bouncer.Kill())
	expect("PgBouncer killed, idle", "broken", said(write(c1)), 0)
	require.NoError(t, s.Bouncer.Start(t.Context()))
	expect("PgBouncer killed, a statement under way", "broken", during(func() { require.NoError(t, s.Bouncer.Kill()) }), 0)
}

// What the router makes of it: a write is done once or not at all, and where
// that can't be known it says so.
func TestWritesWhenPgBouncerDies(t *testing.T) {
	w := newWorld()
	s := private(t, "dies")
	p := tenant(t, w, s)
	r, _ := realRouter(t, w, router.Config{RetryFor: time.Minute}) // PgBouncer may be slow to start
	calls := 0
	require.NoError(t, r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(1, &calls)))

	// Killed while our connections are idle: nothing is lost, nothing is said.
	require.NoError(t, s.Bouncer.Kill())
	done := make(chan error, 1)
	go func() { done <- r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(2, &calls)) }()
	require.NoError(t, s.Bouncer.Start(t.Context()))
	require.NoError(t, <-done)
	require.Equal(t, 2, calls, "the write was sent into a dead connection")

	for access, want := range map[router.Access]error{router.ReadWrite: router.ErrOutcomeUnknown, router.ReadOnly: nil} {
		runs, victim := 0, fmt.Sprintf("SELECT pg_sleep(60), 'of access %d'", access)
		go func() {
			done <- r.Do(t.Context(), p.Tenant, access, func(ctx context.Context, c *router.Conn) error {
				if runs++; runs > 1 {
					return batch(ctx, c.PG, p.Database+"_rw", "SELECT 1")
				}
				return batch(ctx, c.PG, p.Database+"_rw", victim)
			})
		}()
		s.underWay(victim)
		require.NoError(t, s.Bouncer.Kill())
		require.NoError(t, s.Bouncer.Start(t.Context()))
		err := <-done
		if want == nil {
			require.NoError(t, err)
			require.Equal(t, 2, runs)
			continue
		}
		require.ErrorIs(t, err, want)
		require.Equal(t, 1, runs)
	}
	require.Equal(t, 2, s.notes(p))
}

// Backends are ended again and again while requests come and go: a write that
// meets one already ended is not executed there, and is run again elsewhere;
// what was acknowledged is there once, what was not is not there twice.
func TestBackendsEndedBetweenStatements(t *testing.T) {
	w := newWorld()
	a := shared(t, "a")
	p := tenant(t, w, a)
	r, _ := realRouter(t, w, router.Config{RetryFor: time.Minute})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				a.evict(p)
			}
		}
	}()
	acknowledged, unknown := 0, 0
	for i := range 400 {
		calls := 0
		switch err := r.Do(t.Context(), p.Tenant, router.ReadWrite, insert(i, &calls)); {
		case err == nil:
			acknowledged++
		case errors.Is(err, router.ErrOutcomeUnknown):
			unknown++
		default: // a duplicate key is a write that was run again after it had been done
			t.Errorf("write %d, run %d times: %v", i, calls, err)
		}
	}
	close(stop)
	<-done
	written := a.notes(p)
	t.Logf("%d acknowledged, %d unknown, %d written, %d refused", acknowledged, unknown, written, r.Stats().Refused)
	require.GreaterOrEqual(t, written, acknowledged)
	require.LessOrEqual(t, written, acknowledged+unknown)
}

// A backend that is ended under a write leaves the outcome unknown to us; a
// read is run again.
func TestBackendEndedUnderAStatement(t *testing.T) {
	w := newWorld()
	a := shared(t, "a")
	p := tenant(t, w, a)
	r, _ := realRouter(t, w, router.Config{})
	for access, want := range map[router.Access]error{router.ReadWrite: router.ErrOutcomeUnknown, router.ReadOnly: nil} {
		runs, victim, done := 0, fmt.Sprintf("SELECT pg_sleep(60), '%s of access %d'", p.Database, access), make(chan error, 1)
		go func() {
			done <- r.Do(t.Context(), p.Tenant, access, func(ctx context.Context, c *router.Conn) error {
				if runs++; runs > 1 {
					return batch(ctx, c.PG, p.Database+"_rw", "SELECT 1")
				}
				return batch(ctx, c.PG, p.Database+"_rw", victim)
			})
		}()
		a.underWay(victim)
		a.evict(p)
		require.ErrorIs(t, <-done, want)
		require.Equal(t, access == router.ReadOnly, runs > 1, "%d runs", runs)
	}
	require.NotZero(t, r.Stats().Unknown)
}
