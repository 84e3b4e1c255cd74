package api

import (
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// ExportTenant asks for a sealed copy of a tenant's database.
type ExportTenant struct {
	// KeepSeconds is how long the copy is held here; 0: as the control plane is configured.
	KeepSeconds int64 `json:"keep_seconds,omitempty"`
}

// Copy is a sealed copy of a tenant's database.
type Copy struct {
	ID     string            `json:"id"`
	Tenant shardmap.TenantID `json:"tenant"`
	// State is making, held, or gone; WhyGone is expired, deleted, erased, abandoned or refused.
	State   string `json:"state"`
	WhyGone string `json:"why_gone,omitempty"`
	// Origin is export, or upload of one that was handed out.
	Origin string `json:"origin"`
	// SealedAs is the ID in the file's header: that of the export.
	SealedAs string `json:"sealed_as"`
	// Bytes and SHA256 are of the sealed file.
	Bytes         int64      `json:"bytes"`
	SHA256        string     `json:"sha256,omitempty"`
	LSN           string     `json:"lsn,omitempty"`
	SchemaVersion int64      `json:"schema_version"`
	TakenAt       *time.Time `json:"taken_at,omitempty"` // the moment whose state it holds
	// HandedOut is how often its file was downloaded.
	HandedOut int        `json:"handed_out"`
	CreatedBy string     `json:"created_by"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	GoneAt    *time.Time `json:"gone_at,omitempty"`
	// Readable: the tenant's key is there. That of an erased tenant is not.
	Readable bool `json:"readable"`
}

// ImportCopy asks for a new tenant of a held copy.
type ImportCopy struct {
	// ID and DisplayName are the new tenant's.
	ID          string `json:"id"`
	DisplayName string `json:"display_name,omitempty"`
	// To is the shard that it is to live on; empty: the best that fits.
	To string `json:"to,omitempty"`
}

// TenantKey is what is known of the key that a tenant's copies are sealed under.
type TenantKey struct {
	Name      string     `json:"name"`
	Destroyed bool       `json:"destroyed"`
	Rotations int        `json:"rotations"`
	RotatedAt *time.Time `json:"rotated_at,omitempty"`
	RotatedBy string     `json:"rotated_by,omitempty"`
	// Copies that may be somewhere, sealed under it.
	Copies int `json:"copies"`
}

// Erasure is the certificate of an erased tenant.
type Erasure struct {
	Tenant   shardmap.TenantID `json:"tenant"`
	IssuedAt time.Time         `json:"issued_at"`
	// Certificate is the signed file, as text: its signature is of its bytes.
	Certificate string `json:"certificate"`
}

// ErasureKey is the public key that certificates of erasure are verified with, in base64.
type ErasureKey struct {
	PublicKey string `json:"public_key"`
}
