package copies

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/provision"
	"github.com/freehold-db/freehold/internal/envelope"
	"github.com/freehold-db/freehold/shardmap"
)

// ImportRequest asks for a new tenant of a held copy.
type ImportRequest struct {
	Copy        string            `json:"copy"`
	Tenant      shardmap.TenantID `json:"tenant"` // the new one
	DisplayName string            `json:"display_name,omitempty"`
	// To is where the new tenant is to live [where the planner puts it].
	To shardmap.ShardID `json:"to,omitempty"`
}

// ImportDoc is the document of an import: what was asked for, and what steps chose and learned.
type ImportDoc struct {
	ImportRequest
	Source shardmap.TenantID `json:"source,omitempty"` // whose copy it is
	Needs  catalog.Needs     `json:"needs,omitzero"`
	Shard  shardmap.ShardID  `json:"shard,omitempty"`
	// Database is the new tenant's. The inventory's keeper goes by it.
	Database      string        `json:"database,omitempty"`
	SchemaVersion int64         `json:"schema_version,omitempty"`
	Roles         []string      `json:"roles,omitempty"` // custom ones that the database has
	Receipt       ImportReceipt `json:"receipt"`
}

// ImportReceipt says what was made of what.
type ImportReceipt struct {
	Tenant    shardmap.TenantID   `json:"tenant"`
	Source    shardmap.TenantID   `json:"source"`
	Copy      string              `json:"copy"`
	SHA256    string              `json:"sha256"`
	TakenAt   time.Time           `json:"taken_at"` // the moment whose state it holds
	LSN       string              `json:"lsn"`
	Placement *shardmap.Placement `json:"placement,omitempty"`
	Tables    int                 `json:"tables"`
	Rows      int64               `json:"rows"`
	// Verification is "equal" when every table was compared with what the export read.
	Verification string   `json:"verification"`
	MS           float64  `json:"ms"` // of filling and comparing
	Notes        []string `json:"notes,omitempty"`
}

type importRun = operation.Run[ImportDoc]

func (s *Service) importKind() operation.Kind[ImportDoc] {
	return operation.Kind[ImportDoc]{Name: KindImport, Long: true, Steps: []operation.Step[ImportDoc]{
		{Name: "verify", Title: "verifying the copy", Do: s.verifyCopy, Timeout: 24 * time.Hour},
		{Name: "reserve", Title: "picking a shard", Do: s.reserveDatabase, Undo: s.unreserveDatabase, Timeout: 10 * time.Minute},
		{Name: "fill", Title: "filling the database", Do: s.fill, Timeout: 24 * time.Hour},
		{Name: "assign", Title: "opening the new tenant", Do: s.assign, NoReturn: true, Timeout: 10 * time.Minute},
	}}
}

// Import starts to make a new tenant of a held copy. It records in the audit
// log who asked for it. Errors: shardmap.ErrInvalidID, catalog.ErrNotFound (copy
// or shard), ErrExists (the new ID is taken or was), ErrConflict (the copy is
// not held, the shard takes no tenants), ErrErased, ErrNoRoom, ErrBusy, ErrKeyReused, [ErrNoShelf].
func (s *Service) Import(ctx context.Context, req ImportRequest, actor catalog.Actor, requestKey string) (*operation.Operation, error) {
	if err := s.shelf.check(); err != nil {
		return nil, err
	}
	if _, err := shardmap.ParseTenantID(string(req.Tenant)); err != nil {
		return nil, err
	}
	c, err := s.Get(ctx, req.Copy)
	if err != nil {
		return nil, err
	}
	spec := operation.Spec{Kind: KindImport, Tenant: req.Tenant, Actor: actor, RequestKey: requestKey, Data: ImportDoc{ImportRequest: req}}
	admit := func(ctx context.Context, tx pgx.Tx) error {
		switch _, err := s.store.LockTenant(ctx, tx, req.Tenant); {
		case err == nil:
			return fmt.Errorf("tenant %s: %w", req.Tenant, catalog.ErrExists)
		case !errors.Is(err, catalog.ErrNotFound):
			return err
		}
		if err := s.store.NotErased(ctx, tx, c.Tenant); err != nil {
			return err
		}
		if c.State != catalog.CopyHeld {
			return fmt.Errorf("copy %s is %s: %w", c.ID, c.State, catalog.ErrConflict)
		}
		_, err := s.choose(ctx, tx, req, c.Tenant)
		return err
	}
	return s.start(ctx, spec, admit, func(op *operation.Operation) string {
		return fmt.Sprintf(`{"operation":%q,"copy":%q,"source":%q}`, op.ID, c.ID, c.Tenant)
	})
}

// choose picks a shard. Of what the source needs the new tenant has where it
// may be; a group to keep apart from, a pin and a shard to itself are the source's own.
func (s *Service) choose(ctx context.Context, tx pgx.Tx, req ImportRequest, source shardmap.TenantID) (shardmap.ShardID, error) {
	needs, err := s.needs(ctx, source)
	if err != nil {
		return "", err
	}
	return s.provision.Choose(ctx, tx, req.Tenant, catalog.Fit{Shard: req.To}, needs)
}

func (s *Service) needs(ctx context.Context, source shardmap.TenantID) (catalog.Needs, error) {
	n, err := s.store.GetNeeds(ctx, source)
	return catalog.Needs{Region: n.Region, Class: n.Class, Require: n.Require, Forbid: n.Forbid}, err
}

// open opens the copy's file and reads its header.
func (s *Service) open(ctx context.Context, r *importRun) (c catalog.Copy, sealed *envelope.Sealed, done func(), err error) {
	if c, err = s.store.GetCopy(ctx, r.Data.Copy); err != nil {
		return c, nil, nil, err
	}
	if c.State != catalog.CopyHeld {
		return c, nil, nil, fmt.Errorf("copy %s is %s (%s): %w", c.ID, c.State, c.WhyGone, catalog.ErrConflict)
	}
	f, err := s.shelf.open(c.File, false)
	if err != nil {
		return c, nil, nil, err
	}
	done = func() { _ = f.Close() }
	if sealed, err = envelope.Read(f); err == nil {
		_, err = s.owner(ctx, sealed.Header)
	}
	if err == nil && (sealed.Header.Tenant != string(c.Tenant) || sealed.Header.Copy != c.SealedAs) {
		err = fmt.Errorf("%w: another copy is in its file", ErrDamaged)
	}
	if err != nil {
		done()
		return c, nil, nil, explain(err)
	}
	return c, sealed, done, nil
}

// verifyCopy reads the whole copy before anything is made.
func (s *Service) verifyCopy(ctx context.Context, r *importRun) error {
	c, sealed, done, err := s.open(ctx, r)
	if err != nil {
		return permanent(err)
	}
	defer done()
	m, e, err := s.verify(ctx, sealed)
	if err != nil {
		return permanent(err)
	}
	r.Data.Source, r.Data.SchemaVersion = c.Tenant, m.SchemaVersion
	rec := ImportReceipt{Tenant: r.Data.Tenant, Source: c.Tenant, Copy: c.ID, SHA256: c.SHA256, TakenAt: m.TakenAt, LSN: m.LSN, Tables: len(m.Tables), Verification: "not verified"}
	for _, sum := range e.Sums {
		rec.Rows += sum.Rows
	}
	r.Data.Receipt = rec
	return r.SetReceipt(rec)
}

// reserveDatabase writes the inventory's row, so that whatever is made on the shard from here on is known.
func (s *Service) reserveDatabase(ctx context.Context, r *importRun) error {
	needs, err := s.needs(ctx, r.Data.Source)
	if err != nil {
		return permanent(err)
	}
	r.Data.Needs, r.Data.Database = needs, provision.NewDatabaseName()
	// The document is written with the commit, and must say which shard it is.
	err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		r.Data.Shard, err = s.choose(ctx, tx, r.Data.ImportRequest, r.Data.Source)
		return err
	})
	if err != nil {
		return permanent(err)
	}
	return permanent(r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.provision.Admit(ctx, tx, r.Data.Tenant, r.Data.Shard, needs); err != nil {
			return err
		}
		return s.store.InsertDatabase(ctx, tx, catalog.Database{Shard: r.Data.Shard, Name: r.Data.Database,
			State: catalog.DatabaseBuilding, SchemaVersion: r.Data.SchemaVersion})
	}))
}

// unreserveDatabase drops whatever this and the later steps made.
func (s *Service) unreserveDatabase(ctx context.Context, r *importRun) error {
	if r.Data.Database == "" {
		return nil
	}
	return s.provision.Abandon(ctx, r.Data.Shard, r.Data.Database)
}

// assign opens the database and commits the tenant, unless the one whose copy
// it is was erased meanwhile.
func (s *Service) assign(ctx context.Context, r *importRun) error {
	if err := s.provision.Open(ctx, r.Data.Shard, r.Data.Database); err != nil {
		return err
	}
	r.Report(operation.Progress{Phase: "done", Percent: 100})
	source, err := s.store.GetTenant(ctx, r.Data.Source)
	if err != nil {
		return permanent(err)
	}
	return permanent(r.Commit(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := s.store.NotErased(ctx, tx, r.Data.Source); err != nil {
			return err
		}
		p, err := s.store.CreateTenant(ctx, tx, r.Data.Tenant, r.Data.DisplayName, r.Data.Shard, r.Data.Database)
		if err != nil {
			return err
		}
		// Who may do what with the source may with what is made of its copy.
		if err := s.store.SetLabels(ctx, tx, r.Data.Tenant, source.Labels); err != nil {
			return err
		}
		if err := s.store.SetNeeds(ctx, tx, r.Data.Tenant, r.Data.Needs, r.Op.Actor); err != nil {
			return err
		}
		if err := s.access.CloneTx(ctx, tx, r.Data.Source, r.Data.Tenant, r.Data.Roles, r.Op.Actor); err != nil {
			return err
		}
		rec := &r.Data.Receipt
		rec.Placement = &p
		rec.Notes = append(rec.Notes, fmt.Sprintf("labels, plan, limits, attributes, exposed schemas, policies, roles and needs of region, class and labels are as %s has them now; API keys, issuers and temporary logins are not carried", r.Data.Source))
		if err := r.SetReceipt(rec); err != nil {
			return err
		}
		return s.record(ctx, tx, r.Op.Actor, actions[KindImport], r.Data.Tenant, "ok",
			fmt.Sprintf(`{"source":%q,"copy":%q,"sha256":%q,"shard":%q,"rows":%d}`, r.Data.Source, rec.Copy, rec.SHA256, p.Shard, rec.Rows))
	}))
}
