package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/internal/secret"
)

// lookAtBouncer asks the shard's PgBouncer how it is set up.
func (d *Doctor) lookAtBouncer(ctx context.Context, f *findings, s catalog.Shard) {
	console, err := d.fleet.Console(ctx, s.ID)
	if err != nil {
		f.add(Unknown, "pgbouncer", "pgbouncer", err.Error(), "see that it runs; then look again")
		return
	}
	defer console.Close()
	set, err := console.Config(ctx)
	if err != nil {
		f.add(Unknown, "pgbouncer", "pgbouncer", err.Error(), "look again")
		return
	}
	login, _, err := d.secrets.Get(ctx, secret.ShardBouncer(string(s.ID)))
	if err != nil {
		f.add(Unknown, "pgbouncer", "pgbouncer", err.Error(), "see that the secret store can be reached")
		return
	}
	judgeBouncer(f, set, login.User, d.expect.TLS || d.expect.Production)
	forced, err := console.Forced(ctx)
	if err != nil {
		f.add(Unknown, "pgbouncer", "pgbouncer", err.Error(), "look again")
	}
	for _, database := range forced {
		f.add(Critical, "pgbouncer", database, "its entry logs everybody in as one user", "take user= and password= out of the entry in the [databases] section")
	}
}

// judgeBouncer judges PgBouncer's settings; admin is the login of ours to its console.
func judgeBouncer(f *findings, set map[string]string, admin string, tls bool) {
	find := func(severity Severity, name, what, remedy string) {
		f.add(severity, "pgbouncer", name, fmt.Sprintf("it is %q: %s", set[name], what), remedy)
	}
	if t := set["auth_type"]; t != "scram-sha-256" && t != "cert" {
		find(Critical, "auth_type", "clients need no password, or a weak one", "auth_type = scram-sha-256")
	}
	for _, list := range []string{"admin_users", "stats_users"} {
		for _, name := range strings.FieldsFunc(set[list], func(r rune) bool { return r == ',' || r == ' ' }) {
			if name != admin {
				find(Critical, list, name+" may command or watch it as well", list+" = "+admin)
			}
		}
	}
	if u := set["auth_user"]; u != "" && u != shard.BouncerRole { // empty: each entry names its own
		find(Critical, "auth_user", "it looks logins up with another role's rights", "auth_user = "+shard.BouncerRole)
	}
	if q := set["auth_query"]; !strings.Contains(q, "freehold.lookup(") {
		find(Critical, "auth_query", "it shows logins of other databases", "auth_query = SELECT usename, passwd FROM freehold.lookup($1)")
	}
	if set["ignore_startup_parameters"] != "" && strings.Contains(set["ignore_startup_parameters"], "*") {
		find(Warning, "ignore_startup_parameters", "it drops what clients ask for", "name those that may be dropped")
	}
	if tls {
		if m := set["client_tls_sslmode"]; m != "require" && m != "verify-ca" && m != "verify-full" {
			find(Critical, "client_tls_sslmode", "clients may talk to it without TLS", "client_tls_sslmode = verify-full, or require")
		}
		if m := set["server_tls_sslmode"]; m != "verify-full" {
			find(Critical, "server_tls_sslmode", "it does not make sure which server it talks to", "server_tls_sslmode = verify-full")
		}
	}
	if v := set["verbose"]; v != "" && v != "0" {
		find(Warning, "verbose", "it logs what passes through it", "verbose = 0")
	}
}
