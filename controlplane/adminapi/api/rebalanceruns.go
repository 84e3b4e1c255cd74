package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// RebalanceStatus is how the fleet's coordinator of moves stands.
type RebalanceStatus struct {
	Auto AutoMode `json:"auto"`
	// Paused is set while the run under way begins no move.
	Paused *Pause `json:"paused,omitempty"`
	// Run is the one under way, or the last; left out if there never was one.
	Run *RebalanceRun `json:"run,omitempty"`
}

// AutoMode is whether runs begin by themselves.
type AutoMode struct {
	On     bool       `json:"on"`
	By     string     `json:"by,omitempty"` // who said so last
	Reason string     `json:"reason,omitempty"`
	At     *time.Time `json:"at,omitempty"`
	// LookedAt is when it looked last for something to do, Says what it found and waits for.
	LookedAt *time.Time `json:"looked_at,omitempty"`
	Says     string     `json:"says,omitempty"`
}

// Pause is who paused a run, and when.
type Pause struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// RebalanceRun is a run and how far it is.
type RebalanceRun struct {
	Operation Operation `json:"operation"`
	// Plan is the stored plan that it carries out, Drain the shards that it was
	// begun to empty, Trigger why it began by itself.
	Plan    string             `json:"plan,omitempty"`
	Drain   []shardmap.ShardID `json:"drain,omitempty"`
	Trigger string             `json:"trigger,omitempty"`
	// Must: only those move who may not stay where they are.
	Must bool `json:"must"`
	// Plans counts how often it has planned; Replanned says why it did so last.
	Plans     int    `json:"plans"`
	Replanned string `json:"replanned,omitempty"`
	// Left, Moving, Moved, Failed and GivenUp count its moves.
	Left       int     `json:"left"`
	Moving     int     `json:"moving"`
	Moved      int     `json:"moved"`
	Failed     int     `json:"failed"`
	GivenUp    int     `json:"given_up"`
	BytesLeft  float64 `json:"bytes_left"`
	BytesMoved float64 `json:"bytes_moved"`
	// Wait is what keeps the next move from beginning.
	Wait string `json:"wait,omitempty"`
	// Running are the moves under way.
	Running []RebalanceMove `json:"running"`
	// Refused are tenants that should move and can't, by the last plan; the first of them.
	Refused []PlanRefusal `json:"refused,omitempty"`
}

// RebalanceMove is one move of a run.
type RebalanceMove struct {
	N      int               `json:"n"` // place in the run's order
	Tenant shardmap.TenantID `json:"tenant"`
	From   shardmap.ShardID  `json:"from"`
	To     shardmap.ShardID  `json:"to"`
	Bytes  float64           `json:"bytes"`
	Kind   string            `json:"kind"`
	Why    string            `json:"why"`
	// State is left, running, moved, failed or given-up.
	State     string     `json:"state"`
	Operation string     `json:"operation,omitempty"` // the move's
	Progress  *Progress  `json:"progress,omitempty"`  // while it runs
	BegunAt   *time.Time `json:"begun_at,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	Error     string     `json:"error,omitempty"`
}

// CancelRebalance asks to end the run under way.
type CancelRebalance struct {
	// AtOnce also cancels the moves under way that still can be.
	AtOnce bool `json:"at_once,omitempty"`
}

// SetAutoMode has runs begin by themselves, or not.
type SetAutoMode struct {
	On bool `json:"on"`
}

// DrainShard asks to empty a shard.
type DrainShard struct {
	// DryRun says whether all its tenants could go elsewhere, and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// ShardDrain is how far a shard is emptied.
type ShardDrain struct {
	Shard shardmap.ShardID `json:"shard"`
	State string           `json:"state"` // the shard's
	// Was is what the shard is again when the drain is taken back.
	Was     string     `json:"was,omitempty"`
	BegunBy string     `json:"begun_by,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	BegunAt *time.Time `json:"begun_at,omitempty"`
	// Tenants live on the shard; Deleted can be restored until they are purged;
	// Leftovers are databases of the warm pool, of moves, being made or dropped.
	Tenants   int `json:"tenants"`
	Deleted   int `json:"deleted"`
	Leftovers int `json:"leftovers"`
	// GoneAfter is when the last of what is kept for a while may be dropped.
	GoneAfter *time.Time `json:"gone_after,omitempty"`
	// Empty: nothing of any tenant is on it; its server can be switched off.
	Empty bool `json:"empty"`
	// Run empties it; left out if none does.
	Run *Operation `json:"run,omitempty"`
}
