package shardmap

import "time"

// The names under which placements and cutover messages travel over NATS.
// Everything there is a copy: late, lost, doubled or reordered messages must
// never harm (see the package comment of router and docs/architecture.md).
const (
	// BucketPlacements is the JetStream KV bucket: key tenant ID, value JSON [Placement].
	BucketPlacements = "placements"
	// BucketShards is the JetStream KV bucket: key shard ID, value JSON [Shard].
	BucketShards = "shards"
	// BucketNodes holds the heartbeats of data-plane nodes: key node ID, TTL [NodeTTL].
	BucketNodes = "nodes"
	// NodeTTL is the life of a node's heartbeat; nodes renew it at a third of that.
	NodeTTL = 15 * time.Second
	// SubjectHold is the prefix of `freehold.hold.<tenant>`: JSON [Hold] as a request; each node replies one JSON [HoldAck].
	SubjectHold = "freehold.hold."
	// SubjectRelease is the prefix of `freehold.release.<tenant>`: JSON [Release]; if it names a subject to reply to, each node replies one JSON [HoldReport].
	SubjectRelease = "freehold.release."
)

// Hold asks every node to keep new requests of a tenant back while its
// placement flips, and to say when those under way are done. It is a hint that
// shortens the pause; what keeps a stale node out is the fence in Postgres.
type Hold struct {
	Tenant TenantID `json:"tenant"`
	// Epoch is the placement's epoch when the hold was asked for; a placement with a greater one ends the hold.
	Epoch Epoch `json:"epoch"`
	// ID tells this attempt of a cutover from others; a release names it.
	ID string `json:"id"`
	// For is how long a node holds at most, counted from receipt by its own clock, in nanoseconds.
	For time.Duration `json:"for"`
}

// HoldAck is a node's answer to a [Hold].
type HoldAck struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	// Drained is true when no request of the tenant was under way at the node any more.
	Drained bool `json:"drained"`
}

// HoldReport is a node's answer to a [Release]: what its own requests saw of
// the hold. Nodes of older versions don't answer.
type HoldReport struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	// Held is how many requests waited because of the hold.
	Held int `json:"held"`
	// Longest is how long the oldest of them waited, in nanoseconds.
	Longest time.Duration `json:"longest"`
}

// Release ends a hold without a new placement (the cutover was given up), or
// brings the new placement along so that nodes need not wait for the KV watch.
type Release struct {
	Tenant TenantID `json:"tenant"`
	ID     string   `json:"id"`
	// Placement is set when the cutover committed.
	Placement *Placement `json:"placement,omitempty"`
	// Follow: who is still logged in at the old place's PgBouncer is led to the new place by it.
	Follow bool `json:"follow,omitempty"`
}
