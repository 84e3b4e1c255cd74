package shardmap

import "time"

// SubjectRenew is the prefix of `freehold.renew.<tenant>`: JSON [Renewal] as a
// request; each node answers (see [AnswerOf]) with one JSON [RenewalAck].
const SubjectRenew = "freehold.renew."

// Renewal tells every node that a tenant's logins have a new generation, whose
// secret is written: it is to be used from now on, for the one before it will be
// closed. A node that never hears of it learns of it when it is refused.
type Renewal struct {
	Tenant TenantID `json:"tenant"`
	// Generation is the newest.
	Generation int64 `json:"generation"`
	// ID tells this question from others.
	ID string `json:"id"`
	// For is how long a node may take to answer, counted from receipt by its own clock, in nanoseconds.
	For time.Duration `json:"for"`
}

// RenewalAck is a node's answer to a [Renewal].
type RenewalAck struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	// Done is true when the node has no connection by an older generation any
	// more, and opens none.
	Done bool `json:"done"`
	// Trouble says why not, if it was not just the time; safe to show.
	Trouble string `json:"trouble,omitempty"`
}
