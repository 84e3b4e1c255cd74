package api

import "github.com/freehold-db/freehold/shardmap"

// CloneTenant asks for a new tenant with the contents of another.
type CloneTenant struct {
	// ID and DisplayName are the new tenant's.
	ID          string `json:"id"`
	DisplayName string `json:"display_name,omitempty"`
	// To is the shard that it is to live on; empty: the source's.
	To string `json:"to,omitempty"`
	// SchemaOnly leaves the application's rows behind.
	SchemaOnly bool `json:"schema_only,omitempty"`
	// MaxBytesPerS bounds the copy, in bytes a second over the wire; 0: as fast as the servers bear.
	MaxBytesPerS int64 `json:"max_bytes_per_s,omitempty"`
	// Pace is PaceConsiderate (also if empty) or PaceFull: whether the copy minds others who work on its servers.
	Pace string `json:"pace,omitempty"`
	// DryRun walks the same steps, changes nothing, and answers with a Plan.
	DryRun bool `json:"dry_run,omitempty"`
}

// UpgradePlan says what it means to drain one shard onto another: a page of its
// tenants, each with the preflight of its move.
type UpgradePlan struct {
	From UpgradeEnd `json:"from"`
	To   UpgradeEnd `json:"to"`
	// Room is how many more databases the target may take; negative: no bound.
	Room int `json:"room"`
	// BytesPerSecond is what times are estimated by: the median of the latest
	// moves' if Measured, else an assumption.
	BytesPerSecond float64    `json:"bytes_per_second"`
	Measured       bool       `json:"measured"`
	Items          []Prospect `json:"items"`
	NextCursor     string     `json:"next_cursor,omitempty"`
}

// UpgradeEnd is a shard and the version of its Postgres.
type UpgradeEnd struct {
	Shard    shardmap.ShardID `json:"shard"`
	Postgres string           `json:"postgres"`
}

// Prospect is what the move of one tenant would meet.
type Prospect struct {
	Tenant          shardmap.TenantID `json:"tenant"`
	Feasible        bool              `json:"feasible"`
	Tables          int               `json:"tables"`
	Bytes           int64             `json:"bytes"`
	EstimateSeconds float64           `json:"estimate_seconds"`
	// Refusals stand in the way; Waits go away by themselves; Warnings are to be known.
	Refusals []Finding `json:"refusals,omitempty"`
	Waits    []Finding `json:"waits,omitempty"`
	Warnings []Finding `json:"warnings,omitempty"`
}

// Finding is one thing that a preflight found.
type Finding struct {
	Code   string `json:"code"`
	Object string `json:"object,omitempty"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy,omitempty"`
}
