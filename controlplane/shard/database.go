package shard

import (
	"context"

	"github.com/freehold-db/freehold/shardmap"
)

// The templates that every shard keeps.
const (
	TemplateBase = "freehold_base" // hardened, empty: what a move fills
	TemplateApp  = "freehold_app"  // TemplateBase and the application's schema at its newest version
)

// CreateDatabase makes the tenant database from a template, fenced: the caller
// opens it with [Unfence]. Its roles must be there. A fenced database of that
// name is a leftover of a try before and is replaced. Errors: [ErrInUse].
func (f *Fleet) CreateDatabase(ctx context.Context, id shardmap.ShardID, database, template string) error {
	return errTODO
}

// PrepareShard does once per server what isolation needs: PUBLIC may connect
// to none of its databases, the platform's roles are there. It never changes
// the password of [BouncerRole].
func (f *Fleet) PrepareShard(ctx context.Context, id shardmap.ShardID) error { return errTODO }

// Schema is the application schema that tenants get.
type Schema struct {
	Version     int64  // goose version of the newest migration; 0: no migrations
	Fingerprint string // of all migrations' contents
}

// EnsureTemplates has both templates made anew if they are missing or not at
// the newest schema in migrationsDir. Creations may run meanwhile, and so may
// other replicas.
func (f *Fleet) EnsureTemplates(ctx context.Context, id shardmap.ShardID, migrationsDir string) (Schema, error) {
	return Schema{}, errTODO
}
