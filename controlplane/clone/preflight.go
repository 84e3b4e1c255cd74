package clone

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/schema"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
	"github.com/freehold-db/freehold/controlplane/shard"
	"github.com/freehold-db/freehold/shardmap"
)

// preflight finds what could break and touches nothing.
func (s *Service) preflight(ctx context.Context, r *run) error {
	start := time.Now()
	found, err := s.look(ctx, r)
	if err != nil {
		return err
	}
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

func (s *Service) checkPreflight(ctx context.Context, r *run) (string, error) {
	found, err := s.look(ctx, r)
	if err != nil {
		return "", err
	}
	refused, waits, warnings := survey.Levels(found)
	if len(refused) > 0 {
		return "", &RefusedError{refused}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "nothing stands in the way of copying %d tables of %.1f MB from %s on %s to a new tenant %s on %s", r.Data.Receipt.Tables,
		float64(r.Data.Receipt.Bytes)/1e6, r.Data.Source, r.Data.Receipt.From.Shard, r.Data.Tenant, r.Data.Shard)
	for _, f := range waits {
		b.WriteString("; would wait: " + f.String())
	}
	for _, f := range warnings {
		b.WriteString("; note: " + f.String())
	}
	return b.String(), nil
}

// means says what a move's findings mean for a clone, to which nothing is
// streamed; those that are not here mean the same.
var means = map[string]survey.Level{
	// What streaming needs.
	"wal-level": "", "slots": "", "senders": "", "origins": "", "workers": "", "replica-identity": "", "long-transaction": "",
	"whole-row-identity": "",
	"logical-slot":       "", // the source's own; nobody follows the clone
	// What is under way at the source is not in the snapshot, and stays there.
	"prepared-transaction": "",
	// The clone does without; the source keeps it.
	"publication": survey.Warn, "subscription": survey.Warn,
}

// look reads both ends and notes where they are.
func (s *Service) look(ctx context.Context, r *run) ([]survey.Finding, error) {
	source, err := s.store.GetTenant(ctx, r.Data.Source)
	if err == nil {
		err = s.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
			_, err := s.endpoints(ctx, tx, r.Data.Request)
			return err
		})
	}
	if err != nil {
		return nil, permanent(err)
	}
	r.Data.Shard = home(r.Data.Request, source)
	r.Data.Receipt = Receipt{Tenant: r.Data.Tenant, Source: r.Data.Source, From: source.Placement, SchemaOnly: r.Data.SchemaOnly, Verification: "not verified"}
	src, dst, err := s.open(ctx, source.Placement, r.Data.Shard)
	if err != nil {
		return nil, err
	}
	defer closeConn(src)
	defer closeConn(dst)
	found, err := s.between(ctx, src, dst, source.Placement.Database)
	if err != nil {
		return nil, err
	}
	inside, err := survey.Inside(ctx, src, "")
	if err != nil {
		return nil, err
	}
	own, err := ownFindings(ctx, src)
	if err != nil {
		return nil, err
	}
	tables, err := survey.Tables(ctx, src)
	if err != nil {
		return nil, err
	}
	for _, t := range s.wanted(r, tables) {
		r.Data.Receipt.Tables++
		r.Data.Receipt.Bytes += t.Bytes
	}
	var all []survey.Finding
	for _, f := range append(append(found, inside...), own...) {
		if level, known := means[f.Code]; known {
			f.Level = level
		}
		if f.Level != "" {
			all = append(all, f)
		}
	}
	return all, nil
}

// open connects to the source's database and the target's server.
func (s *Service) open(ctx context.Context, from shardmap.Placement, to shardmap.ShardID) (src, dst *pgx.Conn, err error) {
	if src, err = s.fleet.TableSession(ctx, from.Shard, from.Database, applicationName); err != nil {
		return nil, nil, err
	}
	if dst, err = s.fleet.Session(ctx, to, maintenance, applicationName); err != nil {
		closeConn(src)
		return nil, nil, err
	}
	return src, dst, nil
}

// between compares the two servers.
func (s *Service) between(ctx context.Context, src, dst *pgx.Conn, database string) ([]survey.Finding, error) {
	here, err := survey.ReadServer(ctx, src, database)
	if err != nil {
		return nil, err
	}
	there, err := survey.ReadServer(ctx, dst, shard.TemplateBase)
	if err != nil {
		return nil, err
	}
	found := survey.Between(here, there)
	_, err = s.tools.For(ctx, here.Version/10000, there.Version/10000)
	switch older := there.Version/10000 < here.Version/10000; {
	case errors.Is(err, schema.ErrNoTools) && !older: // that the target is older is said already
		found = append(found, survey.Finding{Level: survey.Refuse, Code: "tools", Reason: err.Error()})
	case err != nil && !errors.Is(err, schema.ErrNoTools):
		return nil, err
	}
	extensions, err := survey.Extensions(ctx, src)
	if err != nil {
		return nil, err
	}
	missing, err := survey.Missing(ctx, dst, extensions)
	return append(found, missing...), err
}

// ownFindings are those that are none of a move's.
func ownFindings(ctx context.Context, src *pgx.Conn) ([]survey.Finding, error) {
	const temporaries = `SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_authid r ON r.oid = s.refobjid
		WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
		AND r.rolname ~ ('^' || pg_catalog.current_database() || '_tmp_')`
	rows, err := src.Query(ctx, temporaries)
	if err != nil {
		return nil, fmt.Errorf("preflight: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("preflight: %w", err)
	}
	var found []survey.Finding
	for _, name := range names {
		found = append(found, survey.Finding{Level: survey.Refuse, Code: "temporary-login", Object: name,
			Reason: "a temporary login, which is not carried, owns something or was granted something", Remedy: "REASSIGN OWNED or REVOKE, or wait until it has expired"})
	}
	moving, err := beingMoved(ctx, src)
	if moving {
		found = append(found, survey.Finding{Level: survey.Wait, Code: "moving", Reason: whyMoving})
	}
	return found, err
}

const whyMoving = "the source is being moved, or its move soaks, and has other replica identities for as long; wait, or end it (tenant-ops op list; tenant move complete)"

// beingMoved tells whether a move has changed how the source's rows are
// replicated, which a clone must not take for the tenant's own wish.
func beingMoved(ctx context.Context, q survey.Querier) (yes bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname LIKE 'freehold\_move\_%')`).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("look for a move of the source: %w", err)
	}
	return yes, nil
}
