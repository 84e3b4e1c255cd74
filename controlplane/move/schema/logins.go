package schema

import (
	"slices"
	"strings"
)

// Logins are who makes what an archive holds: libpq environments of the target.
//
// To make an object can run the tenant's code: a partition's CHECK constraint
// when it is attached, a domain's for an aggregate's first value or a bound, a
// cast while a foreign key is checked. So all is made by Owner, who may do what
// the tenant's owner may, but what only a superuser may make, by whom it was
// made at the source too; of that, nothing runs the tenant's code. Grants are
// Admin's as well: one that was made by whom a right was handed on to is made in that one's name.
type Logins struct {
	Owner, Admin []string
	// Own tells whether a role is the tenant's own.
	Own func(role string) bool
}

// admins are the kinds of objects that are made by Admin, whoever owns them.
// pg_restore words them; no name of the tenant's comes before them.
var admins = []string{"SCHEMA", "EXTENSION", "EVENT TRIGGER", "PROCEDURAL LANGUAGE", "CAST", "TRANSFORM", "FOREIGN DATA WRAPPER", "SERVER",
	"ACCESS METHOD", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE"}

const acl = "ACL "

// comesLast tells the grants but those on schemas: who is to own a table needs CREATE before.
func (e Entry) comesLast() bool {
	return strings.HasPrefix(e.Describe, acl) && !strings.HasPrefix(e.Describe, acl+"- SCHEMA ")
}

// byAdmin says who makes an entry. The owner's name is its last word, which no
// name of the tenant's can change; that of a role of the tenant's has no spaces.
func (l Logins) byAdmin(e Entry) bool {
	if strings.HasPrefix(e.Describe, acl) {
		return true
	}
	what := strings.TrimPrefix(e.Describe, "COMMENT - ")
	for _, kind := range admins {
		if strings.HasPrefix(what, kind+" ") {
			return true
		}
	}
	owner := e.Describe[strings.LastIndexByte(e.Describe, ' ')+1:]
	return owner != "" && !l.Own(owner)
}

// stretch is a run of entries that one login makes.
type stretch struct {
	env     []string
	entries []Entry
}

// stretches has the grants come last, as pg_restore does in one run, and with it
// few runs: each table has its own.
func (l Logins) stretches(entries []Entry) []stretch {
	var parts []stretch
	last := false
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(a, b Entry) int {
		switch {
		case a.comesLast() == b.comesLast():
			return 0
		case b.comesLast():
			return -1
		}
		return 1
	})
	for _, e := range entries {
		admin := l.byAdmin(e)
		if len(parts) == 0 || admin != last {
			env := l.Owner
			if admin {
				env = l.Admin
			}
			parts, last = append(parts, stretch{env: env}), admin
		}
		p := &parts[len(parts)-1]
		p.entries = append(p.entries, e)
	}
	return parts
}
