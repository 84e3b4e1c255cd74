package controlplane

import (
	"context"
	"encoding/json"
	"time"

	"github.com/freehold-db/freehold/controlplane/access"
	"github.com/freehold-db/freehold/controlplane/copies"
	"github.com/freehold-db/freehold/controlplane/erase"
	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/controlplane/shard"
)

// newCopies makes what seals copies of tenants, and what erases tenants.
func (s *Server) newCopies(engine *operation.Engine, fleet *shard.Fleet, tenants *provision.Service, tenantAccess *access.Service, log *auditing, bin string, bearable pace.Bounds) (*copies.Service, *erase.Service) {
	held := copies.New(s.store, engine, fleet, tenants, tenantAccess, s.secrets.Keys, copies.Options{Dir: s.cfg.CopiesDir, Keep: s.cfg.CopiesKeep, PGBinDir: bin, Bearable: bearable, Logger: s.log})
	return held, erase.New(s.store, engine, tenants, held, s.secrets, s.secrets.Keys, erase.Options{Logger: s.log,
		Checkpoint: func(ctx context.Context) (json.RawMessage, error) { return s.checkpoint(ctx, log) }})
}

// checkpoint signs the audit log as it is now, for a certificate; nil: there is
// nothing in it yet. Where it is anchored is not waited for long, nor what goes
// wrong with that: the log's own keeper says so, and tries again.
func (s *Server) checkpoint(ctx context.Context, log *auditing) (json.RawMessage, error) {
	anchoring, cancel := context.WithTimeout(ctx, 10*time.Second)
	_ = log.keeper.Anchor(anchoring)
	cancel()
	c, err := s.audit.Latest(ctx)
	if err != nil || c.Size == 0 {
		return nil, err
	}
	return json.Marshal(map[string]any{"size": c.Size, "note": c.Note})
}
