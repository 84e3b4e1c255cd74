package shard

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

// loginName is the name of a login to a tenant's database: the platform's own, or a temporary one.
const loginName = `^t_[0-9a-f]{16}_((auth|own|sql_rw|sql_ro)_[ab]|tmp_[0-9a-f]{8})$`

var isLogin = regexp.MustCompile(loginName)

// groupOf is the group that pg_hba.conf tells a login by; empty: the role is no login.
func groupOf(role string) string {
	switch {
	case !isLogin.MatchString(role):
		return ""
	case strings.Contains(role, "_tmp_"):
		return tenantdb.People
	default:
		return tenantdb.TenantLogins
	}
}

// enlist writes what puts a role that is a login into its group. The group is
// made, too: the server may have been prepared before there was any.
func enlist(b *strings.Builder, role string) {
	group := groupOf(role)
	if group == "" {
		return
	}
	makeGroup(b, group)
	fmt.Fprintf(b, "GRANT %s TO %s;\n", group, pg.Ident(role))
}

// makeGroup writes what makes a group unless it is there; several sessions may do so at once.
func makeGroup(b *strings.Builder, group string) {
	fmt.Fprintf(b, `DO $$ BEGIN
  IF pg_catalog.to_regrole('%s') IS NULL THEN CREATE ROLE %s NOLOGIN; END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
`, group, group)
}

// Enlist puts all logins of the server into their groups which are not in them
// yet, because an older version made them.
func Enlist(ctx context.Context, conn *pgx.Conn) error {
	names, err := namesOf(ctx, conn, `
		SELECT l.rolname::text FROM pg_catalog.pg_roles l WHERE l.rolname ~ $1 AND NOT EXISTS (
		  SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
		  WHERE m.member = l.oid AND g.rolname = ANY (ARRAY['`+tenantdb.TenantLogins+`', '`+tenantdb.People+`']))
		ORDER BY 1`, loginName)
	if err != nil {
		return fmt.Errorf("logins without a group: %w", err)
	}
	if len(names) == 0 {
		return nil
	}
	var b strings.Builder
	makeGroup(&b, tenantdb.TenantLogins)
	makeGroup(&b, tenantdb.People)
	for _, name := range names {
		// One that is dropped at this moment is no reason to leave the others out.
		fmt.Fprintf(&b, "DO $$ BEGIN GRANT %s TO %s; EXCEPTION WHEN undefined_object THEN NULL; END $$;\n", groupOf(name), pg.Ident(name))
	}
	if err := script(ctx, conn, b.String()); err != nil {
		return fmt.Errorf("logins without a group: %w", err)
	}
	return nil
}
