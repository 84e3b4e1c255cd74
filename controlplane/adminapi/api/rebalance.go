package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// PlacementPolicy is what is declared of where tenants live.
type PlacementPolicy struct {
	// Version grows with every change of it.
	Version int64 `json:"version"`
	// File is all of it as a policy file: the policy, the shards' capacities and the tenants' needs.
	File string `json:"file"`
	// MoreTenants have needs than those in File, which is bounded.
	MoreTenants int       `json:"more_tenants,omitempty"`
	ChangedBy   string    `json:"changed_by"`
	Reason      string    `json:"reason,omitempty"`
	ChangedAt   time.Time `json:"changed_at"`
}

// ApplyPolicy declares what a policy file says: the policy as a whole if it has
// one, and each shard and tenant that it names; all others stay as they are.
type ApplyPolicy struct {
	File string `json:"file"`
	// DryRun changes nothing and tells what would change, and whether it would be refused.
	DryRun bool `json:"dry_run,omitempty"`
}

// AppliedPolicy is what a change of the declared came to.
type AppliedPolicy struct {
	Version int64          `json:"version"`
	Changes []PolicyChange `json:"changes"`
	// Feasible is false when a dry run's change would be refused; Refusal says why.
	Feasible bool   `json:"feasible"`
	Refusal  string `json:"refusal,omitempty"`
}

// PolicyChange is one value that changes. An empty side: it is not there.
type PolicyChange struct {
	Path   string `json:"path"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

// Needs are what a tenant needs of its shard; nothing set: any will do.
type Needs struct {
	Region    string            `json:"region,omitempty"`
	Class     string            `json:"class,omitempty"`
	Require   map[string]string `json:"require,omitempty"`
	Forbid    map[string]string `json:"forbid,omitempty"`
	Apart     string            `json:"apart,omitempty"`
	Pinned    bool              `json:"pinned,omitempty"`
	Exclusive bool              `json:"exclusive,omitempty"`
}

// TenantNeeds are a tenant's needs, and the version of all that is declared of placement.
type TenantNeeds struct {
	Version int64 `json:"version"`
	Needs
}

// ShardCapacity is what a shard may carry, likewise.
type ShardCapacity struct {
	Version int64 `json:"version"`
	Amounts
}

// Amounts has a value for each thing that a shard can run out of. As a capacity, 0 is no bound.
type Amounts struct {
	Bytes       float64 `json:"bytes"`
	Connections float64 `json:"connections"`
	Load        float64 `json:"load"` // seconds of Postgres' work a second
	WAL         float64 `json:"wal"`  // bytes a second
	Databases   float64 `json:"databases"`
}

// TenantPlacement says why a tenant is where it is, and why not elsewhere.
type TenantPlacement struct {
	Tenant    shardmap.TenantID `json:"tenant"`
	Shard     shardmap.ShardID  `json:"shard"`
	Needs     Needs             `json:"needs"`
	Here      []string          `json:"here"`
	Elsewhere []ShardOption     `json:"elsewhere"`
}

// ShardOption is another shard, seen by a tenant: those that could take it come first.
type ShardOption struct {
	Shard shardmap.ShardID `json:"shard"`
	// Constraint keeps the tenant from it; empty: it could take the tenant.
	Constraint string `json:"constraint,omitempty"`
	Detail     string `json:"detail"`
	// Share is how many times its even share the shard would carry with the tenant.
	Share float64 `json:"share,omitempty"`
}

// MakePlan asks for a plan for the fleet as it is, or as a scenario supposes it.
type MakePlan struct {
	// Scenario is like add-shard=4, drain=s3, or several with commas between; empty: none.
	Scenario string `json:"scenario,omitempty"`
	// Partial plans what can be done where something cannot.
	Partial bool `json:"partial,omitempty"`
}

// RebalancePlan is a plan that was made and kept, without what is in it.
type RebalancePlan struct {
	ID string `json:"id"`
	// Digest is that of the fleet the plan was made for.
	Digest        string    `json:"digest"`
	PolicyVersion int64     `json:"policy_version"`
	Scenario      string    `json:"scenario,omitempty"`
	MoveCount     int       `json:"move_count"`
	Bytes         float64   `json:"bytes"`
	CreatedBy     string    `json:"created_by"`
	Reason        string    `json:"reason,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	ExpiresAt     time.Time `json:"expires_at"`
}

// WholePlan is a plan with its moves, in their order, and what they do to each shard.
type WholePlan struct {
	RebalancePlan
	PlannedOutcome
}

// PlannedOutcome is what planning came to.
type PlannedOutcome struct {
	Tenants int `json:"tenants"`
	// WorstBefore and WorstAfter are the fullest shard over what is possible at best.
	WorstBefore float64        `json:"worst_before"`
	WorstAfter  float64        `json:"worst_after"`
	LeastBytes  float64        `json:"least_bytes"`
	Seconds     float64        `json:"seconds"`
	Moves       []PlannedMove  `json:"moves"`
	Shards      []ShardChange  `json:"shards"`
	Refused     []PlanRefusal  `json:"refused,omitempty"`
	Rivals      []RivalOutcome `json:"rivals,omitempty"`
}

// PlannedMove is one tenant's way to another shard, and why.
type PlannedMove struct {
	Tenant shardmap.TenantID `json:"tenant"`
	From   shardmap.ShardID  `json:"from"`
	To     shardmap.ShardID  `json:"to"`
	Bytes  float64           `json:"bytes"`
	Reason string            `json:"reason"`
	Detail string            `json:"detail"`
}

// ShardChange is what a plan does to a shard.
type ShardChange struct {
	Shard    shardmap.ShardID `json:"shard"`
	State    string           `json:"state"`
	Capacity Amounts          `json:"capacity"`
	Before   ShardLoad        `json:"before"`
	After    ShardLoad        `json:"after"`
}

// ShardLoad is what a shard carries at one time.
type ShardLoad struct {
	Load    Amounts `json:"load"`
	Tenants int     `json:"tenants"`
	// Share is how many times its even share the shard carries, in the dimension In where that is most.
	Share float64 `json:"share"`
	In    string  `json:"in,omitempty"`
}

// PlanRefusal is a demand that cannot be met, and the constraint that makes it so.
type PlanRefusal struct {
	Tenant     shardmap.TenantID `json:"tenant"`
	Constraint string            `json:"constraint"`
	Detail     string            `json:"detail"`
}

// RivalOutcome is what another way of balancing comes to.
type RivalOutcome struct {
	Name  string  `json:"name"`
	Moves int     `json:"moves"`
	Bytes float64 `json:"bytes"`
	Worst float64 `json:"worst"`
}

// Simulate asks what a plan would come to if things were otherwise.
type Simulate struct {
	Scenario string `json:"scenario,omitempty"`
	// Event happens to the fleet: more-shards, drain-one, drain-some, hot or grown; not beside a scenario.
	Event string `json:"event,omitempty"`
	Seed  uint64 `json:"seed,omitempty"`
	// File is a policy file that is supposed to have been applied.
	File   string `json:"file,omitempty"`
	Rivals bool   `json:"rivals,omitempty"`
}
