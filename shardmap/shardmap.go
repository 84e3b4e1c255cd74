// Package shardmap is the ground floor of Freehold: the typed names of things
// (tenant, shard, epoch), the placement that binds them, its wire format, and
// the cached map of placements that data-plane nodes route by.
//
// Import law: shardmap imports no other package of this module.
package shardmap

import (
	"errors"
	"fmt"
	"regexp"
)

// TenantID names one customer. It is a lower-case slug, never reused.
// Make one with [ParseTenantID]; a TenantID that crossed no parser is a bug.
type TenantID string

// ShardID names one Postgres server (or HA group) with the PgBouncer in front of it.
type ShardID string

// Epoch counts the changes of one tenant's placement. It grows by exactly one
// with every committed change, so that of two placements of a tenant the one
// with the greater epoch is the newer, however they arrived.
type Epoch uint64

// ErrInvalidID is wrapped by every refusal of a malformed tenant or shard ID.
var ErrInvalidID = errors.New("invalid ID")

var (
	tenantPattern   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,46}$`)
	shardPattern    = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)
	databasePattern = regexp.MustCompile(`^t_[0-9a-f]{16}$`)
)

// ParseTenantID accepts `[a-z][a-z0-9-]{0,46}` and refuses everything else with [ErrInvalidID].
func ParseTenantID(s string) (TenantID, error) {
	if !tenantPattern.MatchString(s) {
		return "", fmt.Errorf("%w: tenant %q: want a lower-case letter, then up to 46 of a-z, 0-9 and '-'", ErrInvalidID, clip(s))
	}
	return TenantID(s), nil
}

// ParseShardID accepts `[a-z][a-z0-9-]{0,30}` and refuses everything else with [ErrInvalidID].
func ParseShardID(s string) (ShardID, error) {
	if !shardPattern.MatchString(s) {
		return "", fmt.Errorf("%w: shard %q: want a lower-case letter, then up to 30 of a-z, 0-9 and '-'", ErrInvalidID, clip(s))
	}
	return ShardID(s), nil
}

// ValidDatabase tells whether s is a tenant database's opaque name (`t_` and
// 16 hex digits). No other name may ever reach a PgBouncer.
func ValidDatabase(s string) bool { return databasePattern.MatchString(s) }

// clip bounds hostile input that ends up in an error text.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

// State says what a tenant's placement allows.
type State string

const (
	// Active: the database takes the tenant's requests. Suspend and delete leave it.
	Active State = "active"
	// Suspended: an operator closed the tenant; requests get 403. Resume leaves it.
	Suspended State = "suspended"
	// Deleted: the tenant is gone for its users; restorable until purged. Restore leaves it.
	Deleted State = "deleted"
)

// Placement says where a tenant lives. The catalog's committed row decides;
// every other Placement is a copy that may be late.
type Placement struct {
	Tenant   TenantID `json:"tenant"`
	Shard    ShardID  `json:"shard"`
	Database string   `json:"database"`
	Epoch    Epoch    `json:"epoch"`
	State    State    `json:"state"`
}

// Validate refuses a placement that no catalog could have written, so that a
// corrupt message can never route a request.
func (p Placement) Validate() error {
	if _, err := ParseTenantID(string(p.Tenant)); err != nil {
		return err
	}
	if _, err := ParseShardID(string(p.Shard)); err != nil {
		return err
	}
	if !ValidDatabase(p.Database) {
		return fmt.Errorf("%w: database %q", ErrInvalidID, clip(p.Database))
	}
	switch p.State {
	case Active, Suspended, Deleted:
	default:
		return fmt.Errorf("placement of %s: unknown state %q", p.Tenant, clip(string(p.State)))
	}
	if p.Epoch == 0 {
		return fmt.Errorf("placement of %s: epoch is zero", p.Tenant)
	}
	return nil
}

// Shard tells a data-plane node how to reach a shard's PgBouncer. It carries no secret.
type Shard struct {
	ID ShardID `json:"id"`
	// Host of the shard's PgBouncer: a name, an address, or a directory of a unix socket.
	Host string `json:"host"`
	Port uint16 `json:"port"`
	// Version grows with every change of the shard's row; the newer wins.
	Version int64 `json:"version"`
}
