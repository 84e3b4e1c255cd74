package catalog

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// CredentialKind is whose logins a credential is.
type CredentialKind string

const (
	TenantCredential CredentialKind = "tenant" // the logins to a tenant's database
	ShardCredential  CredentialKind = "shard"  // the admin login of a shard
)

// Credential is what the catalog knows of a generation of logins: all but the secret.
type Credential struct {
	Kind    CredentialKind
	Subject string // the tenant, or the shard
	Shard   shardmap.ShardID
	// Login is the one that the secret names; empty in the first generation of a shard.
	Login      string
	Generation int64
	IssuedAt   time.Time
	IssuedBy   string // empty: made with what it is for
	Reason     string
	Age        time.Duration // by the catalog's clock
	// Operation is what has the tenant, or is at work on the shard's login, now; empty: nothing.
	Operation string
}

// first generations have no row: they were issued when what they are for was made.
const allCredentials = `(
	select 'tenant' as kind, p.tenant as subject, p.shard, coalesce(c.login, p.database || '_auth_a') as login,
		coalesce(c.generation, 1) as generation, coalesce(c.issued_at, t.created_at) as issued_at, coalesce(c.issued_by, '') as issued_by, coalesce(c.reason, '') as reason,
		(select o.id::text from operations o where o.tenant = p.tenant and o.finished_at is null) as operation
	from placements p join tenants t on t.id = p.tenant left join credentials c on c.kind = 'tenant' and c.subject = p.tenant
	where p.state <> 'deleted'
	union all
	select 'shard', s.id, s.id, coalesce(c.login, ''), coalesce(c.generation, 1), coalesce(c.issued_at, s.created_at), coalesce(c.issued_by, ''), coalesce(c.reason, ''),
		(select o.id::text from operations o where o.kind = 'secret-rotate-shard' and o.data->>'shard' = s.id and o.finished_at is null limit 1)
	from shards s left join credentials c on c.kind = 'shard' and c.subject = s.id
	where s.state not in ('down', 'removed')
)`

const credentialColumns = `k.kind, k.subject, k.shard, k.login, k.generation, k.issued_at, k.issued_by, k.reason,
	greatest(extract(epoch from clock_timestamp() - k.issued_at), 0)::float8, coalesce(k.operation, '')`

func scanCredential(row pgx.CollectableRow) (Credential, error) {
	var c Credential
	var age float64
	err := row.Scan(&c.Kind, &c.Subject, &c.Shard, &c.Login, &c.Generation, &c.IssuedAt, &c.IssuedBy, &c.Reason, &age, &c.Operation)
	c.Age = time.Duration(age * float64(time.Second))
	return c, err
}

// IssueCredential records a generation. One that is recorded already is left as it is.
func (s *Store) IssueCredential(ctx context.Context, tx pgx.Tx, kind CredentialKind, subject, login string, generation int64, by Actor) error {
	_, err := tx.Exec(ctx, `insert into credentials as c (kind, subject, login, generation, issued_by, reason) values ($1, $2, $3, $4, $5, $6)
		on conflict (kind, subject) do update set login = excluded.login, generation = excluded.generation,
			issued_at = clock_timestamp(), issued_by = excluded.issued_by, reason = excluded.reason
		where c.generation < excluded.generation`, kind, subject, login, generation, by.Name, by.Reason)
	if err != nil {
		return fmt.Errorf("credential of %s %s: %w", kind, subject, translate(err))
	}
	return nil
}

// GetCredential reads one. Errors: ErrNotFound (no such tenant or shard, or it has none any more).
func (s *Store) GetCredential(ctx context.Context, kind CredentialKind, subject string) (Credential, error) {
	c, err := one(ctx, s.pool, scanCredential, `select `+credentialColumns+` from `+allCredentials+` k where k.kind = $1 and k.subject = $2`, kind, subject)
	if err != nil {
		return c, fmt.Errorf("credential of %s %s: %w", kind, subject, err)
	}
	return c, nil
}

// CredentialFilter narrows a list; zero fields don't.
type CredentialFilter struct {
	Kind  CredentialKind
	Shard shardmap.ShardID // theirs, and of the tenants that live there
	// Tenant names one.
	Tenant shardmap.TenantID
	// Sight leaves out what a caller may not see.
	Sight *Sight
	// Older: issued at least so long ago.
	Older time.Duration
	// Before: issued before that time.
	Before time.Time
}

// ListCredentials lists by kind and subject. next is the cursor of the following page, empty after the last.
func (s *Store) ListCredentials(ctx context.Context, f CredentialFilter, p Page) (credentials []Credential, next string, err error) {
	var before *time.Time
	if !f.Before.IsZero() {
		before = &f.Before
	}
	seen, params := f.Sight.Seen("(case k.kind when 'tenant' then k.subject end)", 8)
	credentials, err = many(ctx, s.pool, scanCredential, `select `+credentialColumns+` from `+allCredentials+` k
		where k.kind || '/' || k.subject > $1 and ($2 = '' or k.kind = $2) and ($3 = '' or k.shard = $3) and ($4 = '' or k.kind = 'tenant' and k.subject = $4)
			and k.issued_at <= clock_timestamp() - make_interval(secs => $5) and ($6::timestamptz is null or k.issued_at < $6) and `+seen+`
		order by k.kind || '/' || k.subject limit $7`, append([]any{p.After, f.Kind, f.Shard, f.Tenant, f.Older.Seconds(), before, p.Rows() + 1}, params...)...)
	if err != nil {
		return nil, "", fmt.Errorf("list credentials: %w", err)
	}
	credentials, next = CutPage(p, credentials, func(c Credential) string { return string(c.Kind) + "/" + c.Subject })
	return credentials, next, nil
}

// DueCredentials lists, oldest first, those that are free to be rotated and as
// old as they may get. Each has its own time within the last fifth of every, so
// that what was made together is not rotated together. Left out is what would
// keep others from their turn: whose rotation failed within the last hour, and
// tenants of a shard that is down, or on which one has been stuck for long.
func (s *Store) DueCredentials(ctx context.Context, every time.Duration, limit int) ([]Credential, error) {
	due, err := many(ctx, s.pool, scanCredential, `
		with stuck as materialized (select distinct data->>'shard' as shard from operations
			where kind = 'secret-rotate' and state in ('pending', 'running', 'undoing') and created_at < clock_timestamp() - `+stuckAfter+`)
		select `+credentialColumns+` from `+allCredentials+` k
		where k.operation is null
			and k.issued_at + make_interval(secs => $1) * (0.8 + 0.2 * (hashtext(k.kind || k.subject || k.generation) & 1023) / 1023.0) <= clock_timestamp()
			and not exists (select from operations o where k.kind = 'tenant' and o.tenant = k.subject and o.kind = 'secret-rotate'
				and o.state in ('failed', 'canceled') and o.finished_at > clock_timestamp() - interval '1 hour')
			and not exists (select from operations o where k.kind = 'shard' and o.kind = 'secret-rotate-shard' and o.data->>'shard' = k.subject
				and o.state in ('failed', 'canceled') and o.finished_at > clock_timestamp() - interval '1 hour')
			and (k.kind = 'shard' or k.shard not in (select shard from stuck where shard is not null)
				and exists (select from shards s where s.id = k.shard and s.state <> 'down'))
		order by k.issued_at limit $2`, every.Seconds(), limit)
	if err != nil {
		return nil, fmt.Errorf("credentials that are due: %w", err)
	}
	return due, nil
}

// OldestCredentials tells the age of the oldest of each kind.
func (s *Store) OldestCredentials(ctx context.Context) (map[CredentialKind]time.Duration, error) {
	type age struct {
		Kind    CredentialKind
		Seconds float64
	}
	ages, err := many(ctx, s.pool, pgx.RowToStructByPos[age], `select k.kind, greatest(extract(epoch from clock_timestamp() - min(k.issued_at)), 0)::float8 from `+allCredentials+` k group by k.kind`)
	if err != nil {
		return nil, fmt.Errorf("ages of credentials: %w", err)
	}
	oldest := map[CredentialKind]time.Duration{}
	for _, a := range ages {
		oldest[a.Kind] = time.Duration(a.Seconds * float64(time.Second))
	}
	return oldest, nil
}

// CountCredentials counts those there are.
func (s *Store) CountCredentials(ctx context.Context) (int, error) {
	n, err := one(ctx, s.pool, pgx.RowTo[int], `select (select count(*) from placements where state <> 'deleted') + (select count(*) from shards where state not in ('down', 'removed'))`)
	if err != nil {
		return 0, fmt.Errorf("count credentials: %w", err)
	}
	return n, nil
}

// stuckAfter is how long a rotation is under way, which takes seconds, before it
// is taken for one that will not end soon, such as of a server that is away.
const stuckAfter = `interval '15 minutes'`

// RotationsUnderWay counts the operations of these kinds that have not ended and are not stuck.
func (s *Store) RotationsUnderWay(ctx context.Context, kinds ...string) (int, error) {
	n, err := one(ctx, s.pool, pgx.RowTo[int], `select count(*) from operations where kind = any($1)
		and state in ('pending', 'running', 'undoing') and created_at > clock_timestamp() - `+stuckAfter, kinds)
	if err != nil {
		return 0, fmt.Errorf("count rotations: %w", err)
	}
	return n, nil
}
