// Package movetest holds what tests of the move share: a database with a
// little of everything.
package movetest

import _ "embed"

// Everything makes, as the owner role of a tenant's database, a little of
// everything that a move must carry.
//
//go:embed everything.sql
var Everything string
