package clone

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
)

// reserve writes the inventory's row, so that whatever is made on the shard from here on is known.
func (s *Service) reserve(ctx context.Context, r *run) error {
	start := time.Now()
	source, err := s.store.GetTenant(ctx, r.Data.Source)
	if err != nil {
		return permanent(err)
	}
	row, err := s.store.GetDatabase(ctx, source.Placement.Shard, source.Placement.Database)
	if err != nil {
		return err
	}
	r.Data.Shard, r.Data.Database = home(r.Data.Request, source), provision.NewDatabaseName()
	r.Data.Receipt.phase("reserve", start)
	err = r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.admit(ctx, tx, r.Data.Request, r.Data.Shard); err != nil {
			return err
		}
		return s.store.InsertDatabase(ctx, tx, catalog.Database{Shard: r.Data.Shard, Name: r.Data.Database,
			State: catalog.DatabaseBuilding, SchemaVersion: row.SchemaVersion})
	})
	return permanent(err)
}

// unreserve drops whatever this and the later steps made.
func (s *Service) unreserve(ctx context.Context, r *run) error {
	if r.Data.Database == "" {
		return nil
	}
	return s.provision.Abandon(ctx, r.Data.Shard, r.Data.Database)
}

func (s *Service) checkReserve(_ context.Context, r *run) (string, error) {
	return fmt.Sprintf("enters a database with a name of its own on %s into the inventory", r.Data.Shard), nil
}

// assign opens the database and commits the tenant.
func (s *Service) assign(ctx context.Context, r *run) error {
	start := time.Now()
	if err := s.provision.Open(ctx, r.Data.Shard, r.Data.Database); err != nil {
		return err
	}
	r.Report(operation.Progress{Phase: "done", Percent: 100})
	err := r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		// Nothing is made of a tenant that was erased meanwhile: its certificate may be signed.
		if err := s.store.NotErased(ctx, tx, r.Data.Source); err != nil {
			return err
		}
		p, err := s.store.CreateTenant(ctx, tx, r.Data.Tenant, r.Data.DisplayName, r.Data.Shard, r.Data.Database)
		if err != nil {
			return err
		}
		// Who may do what with the source may with its clone.
		source, err := s.store.GetTenant(ctx, r.Data.Source)
		if err != nil {
			return err
		}
		if err := s.store.SetLabels(ctx, tx, r.Data.Tenant, source.Labels); err != nil {
			return err
		}
		needs, err := s.needs(ctx, r.Data.Source)
		if err != nil {
			return err
		}
		if err := s.store.SetNeeds(ctx, tx, r.Data.Tenant, needs, r.Op.Actor); err != nil {
			return err
		}
		if err := s.access.CloneTx(ctx, tx, r.Data.Source, r.Data.Tenant, r.Data.Roles, r.Op.Actor); err != nil {
			return err
		}
		r.Data.Receipt.Placement = &p
		r.Data.Receipt.Notes = []string{"labels, plan, limits, attributes, exposed schemas, policies, roles and needs of region, class and labels are as the source's; API keys, issuers and temporary logins are not carried"}
		r.Data.Receipt.phase("assign", start)
		if err := r.SetReceipt(r.Data.Receipt); err != nil {
			return err
		}
		return s.store.AppendAudit(ctx, tx, catalog.AuditRecord{Actor: r.Op.Actor, Action: "tenant.clone", Object: "tenant/" + string(r.Data.Tenant),
			Tenant: r.Data.Tenant, Outcome: "ok", Details: fmt.Appendf(nil, `{"source":%q,"shard":%q,"database":%q,"rows":%d}`, r.Data.Source, p.Shard, p.Database, r.Data.Receipt.Rows)})
	})
	if errors.Is(err, catalog.ErrExists) || errors.Is(err, catalog.ErrConflict) {
		return operation.Permanent(err)
	}
	return err
}

func (s *Service) checkAssign(_ context.Context, r *run) (string, error) {
	return fmt.Sprintf("opens the database, and makes the tenant %s with the labels, plan, limits, attributes, exposed schemas, policies, roles and needs of region, class and labels of %s, but none of its API keys and issuers",
		r.Data.Tenant, r.Data.Source), nil
}

func (s *Service) checkCopy(_ context.Context, r *run) (string, error) {
	if r.Data.SchemaOnly {
		return "copies the schema, and of the rows only the migrations' own, from one snapshot", nil
	}
	return fmt.Sprintf("copies the schema and about %.1f MB of %d tables in %d streams from one snapshot, builds indexes, and compares every table; the source is only read",
		float64(r.Data.Receipt.Bytes)/1e6, r.Data.Receipt.Tables, s.opt.Streams), nil
}
