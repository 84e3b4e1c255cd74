package pgserver

import (
	"fmt"

	"github.com/freehold-db/freehold/internal/tenantdb"
)

// OpenHBA lets every role in over loopback with its password.
func OpenHBA() []string {
	return []string{
		"local all all scram-sha-256",
		"host all all 127.0.0.1/32 scram-sha-256",
		"host all all ::1/128 scram-sha-256",
		"host replication all 127.0.0.1/32 scram-sha-256",
	}
}

// HBA says who may come in to a server that is not open to all.
type HBA struct {
	// Platform are the logins of ours that may go into any database.
	Platform []string
	// TLS refuses plain text, and whoever has no certificate of the server's
	// roots; people who log in by themselves need none.
	TLS bool
	// From are the networks that the platform and its PgBouncers come from; default loopback.
	From []string
	// People are the networks that people with temporary logins come from; default loopback.
	People []string
}

// Lines are those of pg_hba.conf. They are the second wall around a tenant's
// database, behind the CONNECT privilege: every login but the platform's gets
// only into the database whose anchor role (of the same name) it is a member
// of, and the tenants' logins only from where PgBouncer is.
func (h HBA) Lines() (lines []string) {
	kind, cert := "host", ""
	if h.TLS {
		kind, cert = "hostssl", " clientcert=verify-ca"
	}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, role := range h.Platform { // and what follows it by turns, which is a member of it
		add("local all +%s scram-sha-256", role)
	}
	add("local samerole all scram-sha-256")
	for _, network := range orLoopback(h.People) {
		add("%s samerole +%s %s scram-sha-256", kind, tenantdb.People, network)
	}
	for _, network := range orLoopback(h.From) {
		for _, role := range h.Platform {
			add("%s all +%s %s scram-sha-256%s", kind, role, network, cert)
		}
		add("%s samerole all %s scram-sha-256%s", kind, network, cert)
	}
	add("local all all reject")
	add("host all all all reject")
	return lines
}

func orLoopback(networks []string) []string {
	if len(networks) == 0 {
		return []string{"127.0.0.1/32", "::1/128"}
	}
	return networks
}
