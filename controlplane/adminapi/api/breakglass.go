package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// BreakGlass is one access of a person to one tenant's database, without its password.
type BreakGlass struct {
	ID     string            `json:"id"`
	Tenant shardmap.TenantID `json:"tenant"`
	// As is what it works as: owner, rw or ro.
	As      string `json:"as"`
	Reason  string `json:"reason"`
	Seconds int    `json:"seconds"`
	// State is waiting (for consent), approved (to be opened), open, ending or ended.
	State      string     `json:"state"`
	AskedBy    string     `json:"asked_by"`
	AskedAt    time.Time  `json:"asked_at"`
	ApprovedBy string     `json:"approved_by,omitempty"`
	ApprovedAt *time.Time `json:"approved_at,omitempty"`
	Login      string     `json:"login,omitempty"`
	OpenedAt   *time.Time `json:"opened_at,omitempty"`
	// ExpiresAt is when the login ends; before it is opened, when the request lapses.
	ExpiresAt time.Time  `json:"expires_at"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	EndedBy   string     `json:"ended_by,omitempty"`
	// Cause is why it ended: expired, ended, lapsed or failed.
	Cause string `json:"cause,omitempty"`
	// Sessions counts those of the login that were seen at the server.
	Sessions   int        `json:"sessions"`
	LastUsedAt *time.Time `json:"last_used_at,omitempty"`
}

// OpenedBreakGlass has the login, which is shown this once; none while it waits for consent.
type OpenedBreakGlass struct {
	BreakGlass
	Access *Access `json:"access,omitempty"`
}
