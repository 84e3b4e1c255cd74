package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Secret is what is known of a credential. The secret itself is shown to nobody.
type Secret struct {
	// Kind is tenant (the logins to its database) or shard (its admin login).
	Kind string `json:"kind"`
	// Name is the tenant's ID, or the shard's.
	Name  string           `json:"name"`
	Shard shardmap.ShardID `json:"shard"`
	// Login is the one that the secret names; empty: the one that a shard was registered with.
	Login      string    `json:"login,omitempty"`
	Generation int64     `json:"generation"`
	IssuedAt   time.Time `json:"issued_at"`
	IssuedBy   string    `json:"issued_by,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	AgeSeconds int64     `json:"age_seconds"`
	// Operation is what has the tenant, or is at work on the login, now.
	Operation string `json:"operation,omitempty"`
}

// RotateSecret asks for new logins.
type RotateSecret struct {
	// DryRun walks the same steps, changes nothing, and answers with a Plan.
	DryRun bool `json:"dry_run,omitempty"`
}

// RotateSecrets asks for new logins of every tenant and shard.
type RotateSecrets struct {
	// AtOnce is how many are rotated at the same time; 0: 4.
	AtOnce int  `json:"at_once,omitempty"`
	DryRun bool `json:"dry_run,omitempty"`
}
