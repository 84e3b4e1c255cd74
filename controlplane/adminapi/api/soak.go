package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Soak is the time after a move in which the tenant can be taken back.
type Soak struct {
	// Operation is the move.
	Operation string            `json:"operation"`
	Tenant    shardmap.TenantID `json:"tenant"`
	// Home is where the tenant lives since the move, Old where it lived before.
	Home shardmap.ShardID `json:"home"`
	Old  shardmap.ShardID `json:"old"`
	// State is soaking, reversing, ending, or one of the final ones: ended, reversed.
	State string `json:"state"`
	// Reason is why it ended, or is being ended.
	Reason  string    `json:"reason,omitempty"`
	BeganAt time.Time `json:"began_at"`
	// Until is when it ends by itself.
	Until   time.Time  `json:"until"`
	EndedAt *time.Time `json:"ended_at,omitempty"`
	// KeptBytes of the home's log are kept for the old place, and Trouble is
	// with the link, as of the last look.
	KeptBytes int64  `json:"kept_bytes"`
	Trouble   string `json:"trouble,omitempty"`
}

// ReverseMove asks to take the tenant of a move back while it soaks.
type ReverseMove struct {
	// MaxPauseMS is the longest pause a client may see at the cutover, in milliseconds; 0: 500.
	MaxPauseMS int `json:"max_pause_ms,omitempty"`
	// SoakSeconds is how long the place that is left is kept in step in its turn; 0: not at all.
	SoakSeconds int `json:"soak_seconds,omitempty"`
	// Cutover is when it may cut over: CutoverAuto (also if empty), CutoverManual, or a time (RFC 3339).
	Cutover string `json:"cutover,omitempty"`
	// DryRun walks the same steps, changes nothing, and answers with a Plan.
	DryRun bool `json:"dry_run,omitempty"`
}
