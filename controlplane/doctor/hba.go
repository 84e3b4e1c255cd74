package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/tenantdb"
)

// hbaRule is one line of pg_hba.conf, as the server understood it.
type hbaRule struct {
	Line      int
	Type      string
	Databases []string
	Users     []string
	Address   string
	Method    string
	Error     string
}

func lookAtHBA(ctx context.Context, d *Doctor, conn *pgx.Conn, f *findings) error {
	rows, err := conn.Query(ctx, `SELECT line_number, coalesce(type, ''), coalesce(database, '{}'), coalesce(user_name, '{}'), coalesce(address, ''), coalesce(auth_method, ''), coalesce(error, '')
		FROM pg_catalog.pg_hba_file_rules ORDER BY line_number`)
	if err != nil {
		return err
	}
	rules, err := pgx.CollectRows(rows, pgx.RowToStructByPos[hbaRule])
	if err != nil {
		return err
	}
	judgeHBA(f, rules, d.expect.TLS || d.expect.Production)
	return nil
}

// weak are methods that ask for nothing, or for what can be overheard or guessed.
var weak = map[string]string{
	"trust":    "it lets anybody in without a password",
	"password": "it takes passwords in the clear",
	"md5":      "it takes MD5, which who has read the stored form can replay",
	"ident":    "it believes what the client's machine says",
}

// judgeHBA judges rules in their order.
func judgeHBA(f *findings, rules []hbaRule, tls bool) {
	tenants := &wall{}
	for _, r := range rules {
		where := fmt.Sprintf("pg_hba.conf line %d", r.Line)
		if r.Error != "" {
			f.add(Critical, "hba", where, "the line is wrong, so that the file is not in force: "+r.Error, "mend it, and reload")
			continue
		}
		if why, is := weak[r.Method]; is {
			f.add(Critical, "hba-method", where, fmt.Sprintf("method %s: %s", r.Method, why), "scram-sha-256")
		}
		if tls && (r.Type == "host" || r.Type == "hostnossl") && r.Method != "reject" {
			f.add(Critical, "hba-tls", where, fmt.Sprintf("type %s takes connections without TLS", r.Type), "hostssl")
		}
		tenants.pass(r)
	}
	if tenants.open != nil {
		f.add(Warning, "hba-wall", fmt.Sprintf("pg_hba.conf line %d", tenants.open.Line),
			"it lets tenants' logins into any database, so that CONNECT alone keeps them apart",
			fmt.Sprintf("samerole in place of all, for +%s; and reject at the end (docs/operators/security.md)", tenantdb.TenantLogins))
	}
}

// wall finds the first rule by which a tenant's login might come to another
// tenant's database, CONNECT apart: none if a reject of all is before it.
type wall struct {
	open   *hbaRule
	closed map[string]bool // by type: everything below is refused
}

func (w *wall) pass(r hbaRule) {
	if w.closed == nil {
		w.closed = map[string]bool{}
	}
	forTenants := slices.ContainsFunc(r.Users, func(u string) bool {
		return u == "all" || u == "+"+tenantdb.TenantLogins || u == "+"+tenantdb.People || strings.HasPrefix(u, "t_") || strings.HasPrefix(u, "+t_") || strings.HasPrefix(u, "/")
	})
	anywhere := slices.ContainsFunc(r.Databases, func(d string) bool { return d == "all" || strings.HasPrefix(d, "t_") || strings.HasPrefix(d, "/") })
	kind := "host"
	if r.Type == "local" {
		kind = "local"
	}
	switch {
	case w.closed[kind] || !forTenants || !anywhere:
	case r.Method == "reject":
		everybody := slices.Contains(r.Users, "all") && slices.Contains(r.Databases, "all")
		w.closed[kind] = everybody && (kind == "local" || r.Type == "host" && r.Address == "all")
	case w.open == nil && r.Method != "peer": // peer lets in whom the machine's own user is
		w.open = &r
	}
}
