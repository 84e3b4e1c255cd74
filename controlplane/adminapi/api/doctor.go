package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// SecurityReport is what a look over the fleet has found, the worst first.
type SecurityReport struct {
	At     time.Time `json:"at"`
	Shards int       `json:"shards"`
	// Databases are so many as there are, Looked those that were looked into.
	Databases int               `json:"databases"`
	Looked    int               `json:"looked"`
	Findings  []SecurityFinding `json:"findings"`
}

// SecurityFinding is one thing that is less tight than the platform makes it.
type SecurityFinding struct {
	Severity string           `json:"severity"` // critical, warning, unknown
	Check    string           `json:"check"`
	Shard    shardmap.ShardID `json:"shard,omitempty"`
	Where    string           `json:"where,omitempty"`
	What     string           `json:"what"`
	Remedy   string           `json:"remedy"`
}
