package shard

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/internal/tenantdb"
	"github.com/freehold-db/freehold/shardmap"
)

// Mover is a login to one tenant's database for as long as a copy or a
// comparison takes. Everything that reads or writes the tenant's tables, or
// makes what the tenant has defined, is done by it and never by a superuser:
// whoever plans a query on a table runs what of its indexes' expressions is
// constant, and whoever writes runs its CHECK constraints, domains and generated
// columns. As a login of its own, and not by SET ROLE, since such code could
// undo that. It may do what the tenant's owner may, and reads what row-level
// security hides.
type Mover struct {
	fleet    *Fleet
	on       shardmap.ShardID
	database string
	login    secret.Login
}

// moverFor is after which time a login is useless that its process could not
// drop; [SweepTempLogins] drops it then.
const moverFor = 7 * 24 * time.Hour

// Mover makes a login to the database. One that is fenced stands ajar from then
// on, until it is opened (see [Shut]). The caller closes it.
func (f *Fleet) Mover(ctx context.Context, on shardmap.ShardID, database string) (*Mover, error) {
	conn, err := f.Admin(ctx, on, maintenance)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, conn)
	m, err := makeMover(ctx, conn, database)
	if err != nil {
		return nil, fmt.Errorf("shard %s: login for a copy of %s: %w", on, database, err)
	}
	m.fleet, m.on = f, on
	return m, nil
}

func makeMover(ctx context.Context, conn *pgx.Conn, database string) (*Mover, error) {
	if err := Admit(ctx, conn, database); err != nil {
		return nil, err
	}
	var suffix [4]byte
	_, _ = rand.Read(suffix[:]) // never fails
	login := secret.Login{User: tenantdb.MoverPrefix(database) + hex.EncodeToString(suffix[:]), Password: pg.NewPassword()}
	verifier, err := pg.ScramVerifier(login.Password)
	if err != nil {
		return nil, err
	}
	lit, err := pg.Literal(verifier)
	if err != nil {
		return nil, err
	}
	user := pg.Ident(login.User)
	// By the group and the anchor pg_hba.conf lets it in. PgBouncer's lookup shows nobody who has BYPASSRLS.
	var b strings.Builder
	makeGroup(&b, tenantdb.TenantLogins)
	fmt.Fprintf(&b, "CREATE ROLE %s WITH LOGIN INHERIT BYPASSRLS NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD %s VALID UNTIL '%s';\n",
		user, lit, timestamp(time.Now().Add(moverFor)))
	fmt.Fprintf(&b, "GRANT %s, %s TO %s;\n", tenantdb.TenantLogins, pg.Ident(tenantdb.MoverRole(database)), user)
	if err := script(ctx, conn, b.String()); err != nil {
		return nil, err
	}
	return &Mover{database: database, login: login}, nil
}

// Admit lets logins of copies and the worker of a subscription into a database,
// one that is fenced too, which then stands ajar (see [Shut]): they have their
// rights by being members of [tenantdb.MoverRole], and that has them from the
// database's own roles: CONNECT too, as long as those have it. conn is an admin
// connection to any database of the server.
func Admit(ctx context.Context, conn *pgx.Conn, database string) error {
	if !shardmap.ValidDatabase(database) {
		return shardmap.ErrInvalidID
	}
	for try := 1; ; try++ {
		err := script(ctx, conn, moverRoleSQL(database))
		if err == nil {
			err = setAjar(ctx, conn, database)
		}
		if err == nil {
			return nil
		}
		if try == admitTries || !slices.Contains(atTheSameTime, pg.Code(err)) {
			return fmt.Errorf("let copies into %s: %w", database, err)
		}
		if serr := sleep.For(ctx, time.Duration(try)*20*time.Millisecond); serr != nil {
			return fmt.Errorf("let copies into %s: %w", database, err)
		}
	}
}

// atTheSameTime is what Postgres says to one of two who make the same role or
// grant this moment; then it is there.
var atTheSameTime = []string{pgerrcode.UniqueViolation, pgerrcode.DuplicateObject, pgerrcode.UndefinedObject, pgerrcode.InternalError}

const admitTries = 10

// IsOwn tells whether a role is one of those that a database is moved with.
func IsOwn(database, role string) bool {
	return role == database || strings.HasPrefix(role, database+"_")
}

// moverRoleSQL makes [tenantdb.MoverRole], unless it is there, and has it be a
// member of all roles and logins that the database has by now. It leaves the
// database's row in pg_database alone: who changes that in the moment of a cutover fails it.
func moverRoleSQL(database string) string {
	return fmt.Sprintf(`DO $mover$ DECLARE r name; BEGIN
  BEGIN
    IF pg_catalog.to_regrole('%[3]s') IS NULL THEN CREATE ROLE %[3]s NOLOGIN; END IF;
    IF NOT pg_catalog.has_parameter_privilege('%[3]s', 'session_replication_role', 'SET') THEN
      GRANT SET ON PARAMETER session_replication_role TO %[3]s;
    END IF;
  EXCEPTION WHEN duplicate_object OR unique_violation OR internal_error THEN NULL; -- somebody else made it this moment
  END;
  IF pg_catalog.to_regrole('%[2]s') IS NULL THEN CREATE ROLE %[2]s NOLOGIN; END IF;
  GRANT %[3]s TO %[2]s;
  FOR r IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname ~ '^%[1]s%[4]s$' AND rolname !~ '^%[1]s_tmp_' LOOP
    EXECUTE pg_catalog.format('GRANT %%I TO %[2]s', r);
  END LOOP;
END $mover$;
`, database, tenantdb.MoverRole(database), tenantdb.Movers, tenantdb.RolePattern)
}

// Login is its name and password.
func (m *Mover) Login() secret.Login { return m.login }

// Connect opens a session of the login's in its database, whose settings are
// its own, and which reads tables but no view that poses as one. application is
// what it says of itself.
func (m *Mover) Connect(ctx context.Context, application string) (*pgx.Conn, error) {
	cfg, err := m.fleet.AdminConfig(ctx, m.on, m.database)
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Password = m.login.User, m.login.Password
	delete(cfg.RuntimeParams, "log_min_error_statement") // a superuser's to set
	cfg.RuntimeParams["application_name"] = application
	for k, v := range sessionSettings {
		cfg.RuntimeParams[k] = v
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("shard %s: %w", m.on, err)
	}
	if err := TablesOnly(ctx, conn); err != nil {
		closeConn(ctx, conn)
		return nil, fmt.Errorf("shard %s: %w", m.on, err)
	}
	return conn, nil
}

// Env is [Fleet.ToolEnv] as the login.
func (m *Mover) Env(ctx context.Context, application string, settings ...string) ([]string, error) {
	env, err := m.fleet.ToolEnv(ctx, m.on, m.database, application, settings...)
	if err != nil {
		return nil, err
	}
	return append(env, "PGUSER="+m.login.User, "PGPASSWORD="+m.login.Password), nil // the last one of a name counts
}

// Close drops the login, within its own bound. What it can't drop is useless to
// all, and dropped once its time is over. On nil it does nothing.
func (m *Mover) Close() {
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := m.fleet.Admin(ctx, m.on, maintenance)
	if err != nil {
		return
	}
	defer closeConn(ctx, conn)
	user := pg.Ident(m.login.User)
	_, err = conn.Exec(ctx, "DROP ROLE IF EXISTS "+user)
	if pg.Code(err) == pgerrcode.DependentObjectsStillExist { // it broke off in the middle of making something
		_, _ = conn.Exec(ctx, "ALTER ROLE "+user+" NOLOGIN PASSWORD NULL VALID UNTIL '-infinity'")
	}
}

// dropMovers drops what [Fleet.Mover] made of a database that is dropped.
func dropMovers(ctx context.Context, conn *pgx.Conn, database string) error {
	names, err := namesOf(ctx, conn, "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname ~ ('^' || $1 || '"+tenantdb.MoverPattern+"$')", database)
	if err != nil || len(names) == 0 {
		return err
	}
	return dropRoles(ctx, conn, names)
}
