package move

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/shardmap"
)

// preflightReverse finds what could break and touches nothing.
func (s *Service) preflightReverse(ctx context.Context, r *run) error {
	start := time.Now()
	found, size, err := s.lookBack(ctx, r)
	if err != nil {
		return err
	}
	r.Data.Receipt = newReceipt(r, size)
	refused, waits, warnings := survey.Levels(found)
	if len(refused) > 0 {
		return operation.Permanent(&RefusedError{refused})
	}
	if len(waits) > 0 {
		return operation.Wait(2*time.Second, waits[0].String())
	}
	r.Data.Receipt.Warnings = warnings
	r.Data.Receipt.phase("preflight", start)
	return r.SetReceipt(r.Data.Receipt)
}

func (s *Service) checkReverse(ctx context.Context, r *run) (string, error) {
	found, size, err := s.lookBack(ctx, r)
	if err != nil {
		return "", err
	}
	refused, waits, warnings := survey.Levels(found)
	if len(refused) > 0 {
		return "", &RefusedError{refused}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "nothing stands in the way of taking %s back from %s to %s, which has followed its %d tables", r.Data.Tenant, r.Data.From.Shard, r.Data.To, size.tables)
	for _, f := range waits {
		b.WriteString("; would wait: " + f.String())
	}
	for _, f := range warnings {
		b.WriteString("; note: " + f.String())
	}
	return b.String(), nil
}

// lookBack reads the soak and both ends of it.
func (s *Service) lookBack(ctx context.Context, r *run) ([]survey.Finding, extent, error) {
	k, p, err := s.wayBack(ctx, r.Data.Reverses)
	if err != nil {
		if errors.Is(err, catalog.ErrConflict) || errors.Is(err, catalog.ErrNotFound) {
			err = operation.Permanent(err)
		}
		return nil, extent{}, err
	}
	d := &r.Data
	d.From, d.To, d.Link, d.Fingerprint = p, k.Old, k.Link, k.Fingerprint
	if d.Soak > 0 {
		d.Back = backName(r.Op)
	}
	home, err := s.connect(ctx, k.Home, k.Database)
	if err != nil {
		return nil, extent{}, err
	}
	defer closeConn(home)
	found, err := survey.Inside(ctx, home, d.Link)
	if err != nil {
		return nil, extent{}, err
	}
	now, err := schema.Fingerprint(ctx, home)
	if err != nil {
		return nil, extent{}, err
	}
	if now != k.Fingerprint {
		found = append(found, survey.Finding{Level: survey.Refuse, Code: "schema-changed", Object: k.Database,
			Reason: "the tenant's schema changed since the move, and the old place does not know",
			Remedy: fmt.Sprintf("complete the move, then move the tenant to %s", k.Old)})
	}
	if old, err := s.store.GetShard(ctx, k.Old); err == nil && old.State == catalog.ShardCordoned {
		found = append(found, survey.Finding{Level: survey.Warn, Code: "cordoned", Object: string(k.Old),
			Reason: "its shard is cordoned: it has this tenant back, and takes no others", Remedy: "uncordon it if tenants are to stay there"})
	}
	if d.Soak > 0 {
		more, err := s.lookForSoak(ctx, k, home)
		if err != nil {
			return nil, extent{}, err
		}
		found = append(found, more...)
	}
	tables, err := survey.Tables(ctx, home)
	if err != nil {
		return nil, extent{}, err
	}
	size := extent{tables: len(tables)}
	for _, t := range tables {
		size.bytes += t.Bytes
	}
	for _, on := range []shardmap.ShardID{k.Home, k.Old} {
		console, err := s.fleet.Console(ctx, on)
		if err != nil {
			found = append(found, survey.Finding{Level: survey.Wait, Code: "pgbouncer", Object: string(on), Reason: "its PgBouncer can't be reached: " + err.Error()})
			continue
		}
		console.Close()
	}
	return found, size, nil
}

// lookForSoak finds out whether the place that is left can follow in its turn.
func (s *Service) lookForSoak(ctx context.Context, k catalog.Soak, home *pgx.Conn) ([]survey.Finding, error) {
	old, err := s.connect(ctx, k.Old, k.Database)
	if err != nil {
		return nil, err
	}
	defer closeConn(old)
	here, err := survey.ReadServer(ctx, home, k.Database)
	if err != nil {
		return nil, err
	}
	there, err := survey.ReadServer(ctx, old, k.Database)
	if err != nil {
		return nil, err
	}
	return survey.Back(there, here), nil
}

// wayBack reads what the catalog knows of it. Errors: catalog.ErrConflict, ErrNotFound.
func (s *Service) wayBack(ctx context.Context, id string) (catalog.Soak, shardmap.Placement, error) {
	k, err := s.store.GetSoak(ctx, id)
	if err != nil {
		return k, shardmap.Placement{}, err
	}
	if err := soaking(k); err != nil {
		return k, shardmap.Placement{}, err
	}
	p, err := s.store.GetPlacement(ctx, k.Tenant)
	if err != nil {
		return k, p, err
	}
	switch {
	case p.State == shardmap.Deleted:
		err = fmt.Errorf("tenant %s is deleted: %w", k.Tenant, catalog.ErrConflict)
	case p.Shard != k.Home:
		err = fmt.Errorf("tenant %s lives on %s, not on %s: %w", k.Tenant, p.Shard, k.Home, catalog.ErrConflict)
	default:
		err = s.takesBack(ctx, k)
	}
	return k, p, err
}
