// Package authority decides who may do what, and where. It is the only place
// that does: the admin API asks it about every request, and for what a list
// may show. What no grant allows is refused.
//
// It is plain Go and not a policy language because more is asked of a grant
// than yes or no: whether it lies within other grants (nobody hands out more
// than he has), and which tenants it covers, so that a list is narrowed in the
// catalog and its pages stay full.
//
// Import law: of this module, authority imports shardmap only.
package authority

// Role says what may be done. Which role which verb needs is said in the admin
// API's table of verbs.
type Role string

const (
	// Viewer reads everything but secrets.
	Viewer Role = "viewer"
	// Operator also does what can be undone: create, move, suspend, cordon …
	Operator Role = "operator"
	// Admin also does what can't be undone or opens tenants' data: delete, add a shard, hand out logins.
	Admin Role = "admin"
	// Node is a data-plane node: placements, addresses and access documents, nothing else.
	Node Role = "node"
)

// rank orders the people's roles, each including the ones before. Node is in no order with them.
var rank = map[Role]int{Viewer: 1, Operator: 2, Admin: 3}

// May tells whether r does what need asks for; nodes pass only where they are let in by name.
func (r Role) May(need Role, nodes bool) bool {
	if r == Node {
		return nodes
	}
	return rank[r] > 0 && rank[r] >= rank[need] && rank[need] > 0
}

// Known tells whether there is such a role.
func (r Role) Known() bool { return r == Node || rank[r] > 0 }

// OfPeople tells whether people and machines may have it: [Node] is the nodes' alone.
func (r Role) OfPeople() bool { return rank[r] > 0 }
