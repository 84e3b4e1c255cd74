package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// Sight narrows a list to these tenants and those that bear all labels of one
// of the sets. A nil *Sight narrows nothing; the zero Sight shows nothing.
type Sight struct {
	Tenants []shardmap.TenantID
	Labels  []map[string]string
}

// seenSQL is true of a tenant's ID (an SQL expression) that a sight shows,
// given as three parameters; a row of no tenant is shown by no sight.
func seenSQL(tenant string, all, ids, labels int) string {
	return fmt.Sprintf(`($%d or %s = any($%d) or exists (select from tenants seen, unnest($%d::jsonb[]) l where seen.id = %s and seen.labels @> l))`,
		all, tenant, ids, labels, tenant)
}

// params are those of seenSQL.
func (s *Sight) params() (all bool, ids []shardmap.TenantID, labels []map[string]string) {
	if s == nil {
		return true, []shardmap.TenantID{}, []map[string]string{}
	}
	return false, append([]shardmap.TenantID{}, s.Tenants...), append([]map[string]string{}, s.Labels...)
}

// Seen is seenSQL for sibling packages that keep their own SQL: an SQL
// condition on the expression tenant, and the three parameters it takes from $n on.
func (s *Sight) Seen(tenant string, n int) (sql string, params []any) {
	all, ids, labels := s.params()
	return seenSQL(tenant, n, n+1, n+2), []any{all, ids, labels}
}

// SetLabels gives the tenant these labels and no others. Errors: ErrNotFound.
func (s *Store) SetLabels(ctx context.Context, tx pgx.Tx, id shardmap.TenantID, labels map[string]string) error {
	if labels == nil {
		labels = map[string]string{}
	}
	tag, err := tx.Exec(ctx, `update tenants set labels = $2 where id = $1`, id, labels)
	if err != nil {
		return fmt.Errorf("labels of tenant %s: %w", id, translate(err))
	}
	if tag.RowsAffected() == 0 {
		return fmt.Errorf("tenant %s: %w", id, ErrNotFound)
	}
	return nil
}

// TenantsSeen lists what a sight shows by ID, at most limit; purged tenants too.
func (s *Store) TenantsSeen(ctx context.Context, sight *Sight, limit int) ([]shardmap.TenantID, error) {
	seen, params := sight.Seen("t.id", 2)
	ids, err := many(ctx, s.pool, pgx.RowTo[shardmap.TenantID], `select t.id from tenants t where `+seen+` order by t.id limit $1`, append([]any{limit}, params...)...)
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	return ids, nil
}
