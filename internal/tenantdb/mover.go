package tenantdb

// The roles below do a move's or a clone's work inside a database X, and are no
// part of what it carries: each server has its own. They own nothing that stays
// and may do what X's own roles may, so that a tenant's code which happens to
// run as one of them can do no more than its author could before.

// MoverRole can't log in; it is a member of all roles of X that can't, and the
// others here are members of it.
func MoverRole(database string) string { return database + "_mv" }

// MoverPrefix begins the logins of single copies and comparisons.
func MoverPrefix(database string) string { return database + "_mv_" }

// ApplyRole owns the subscription by which a place of X follows another one. It
// has no password: nobody logs in as it but Postgres's own worker.
func ApplyRole(database string) string { return database + "_apply" }

// MoverPattern ends the names of all these, as a regular expression of Postgres.
// [RolePattern] matches none of them.
const MoverPattern = `_(apply|mv(_[0-9a-f]{8})?)`

// Movers is the group of all of a server's [MoverRole]s. It may keep triggers
// from firing in its sessions (session_replication_role).
const Movers = "freehold_movers"
