package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// act does one thing with a tenant and watches it to its end: mostly a move,
// and at times new logins, a revocation, or a clone.
func (m *mover) act(ctx context.Context, stop <-chan struct{}, r *rand.Rand, tenant string) error {
	switch n := r.IntN(20); {
	case n < 3:
		return m.rotate(ctx, stop, r, tenant)
	case n < 4:
		return m.revoke(ctx, stop, tenant)
	case n < 6:
		return m.clone(ctx, stop, r, tenant)
	default:
		return m.move(ctx, stop, r, tenant)
	}
}

// rotate gives a tenant's database new logins, of which its clients see nothing;
// one time in five all logins are revoked meanwhile.
func (m *mover) rotate(ctx context.Context, stop <-chan struct{}, r *rand.Rand, tenant string) error {
	op, err := m.begin(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.RotateSecrets(ctx, client.Rotation{Tenant: tenant}, ch)
	})
	if err != nil {
		return err
	}
	if r.IntN(5) == 0 {
		time.Sleep(time.Duration(r.IntN(800)) * time.Millisecond)
		if err := m.revoke(ctx, stop, tenant); err != nil {
			m.note("revocation not begun", err.Error())
		}
	}
	m.await(ctx, stop, op)
	return nil
}

// revoke closes all logins, those of the clients that come by the wire too.
func (m *mover) revoke(ctx context.Context, stop <-chan struct{}, tenant string) error {
	op, err := m.begin(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.RevokeSecret(ctx, tenant, ch)
	})
	if err == nil && m.await(ctx, stop, op).State == "done" {
		m.mu.Lock()
		m.revoked[tenant]++
		m.mu.Unlock()
	}
	return err
}

// revocations counts those of a tenant.
func (m *mover) revocations(tenant string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoked[tenant]
}

// clone makes a tenant of another's contents, looks whether they are those of
// one moment, and deletes it.
func (m *mover) clone(ctx context.Context, stop <-chan struct{}, r *rand.Rand, tenant string) error {
	m.mu.Lock()
	m.clones++
	in := api.CloneTenant{ID: fmt.Sprintf("%s-%d", tenant, m.clones), To: m.shards[r.IntN(len(m.shards))]}
	m.mu.Unlock()
	op, err := m.begin(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.CloneTenant(ctx, tenant, in, ch)
	})
	if err != nil || m.await(ctx, stop, op).State != "done" {
		return err
	}
	if wrong, err := m.lookInto(ctx, tenant, in.ID); wrong != "" || err != nil {
		m.mu.Lock()
		m.wrong = append(m.wrong, fmt.Sprintf("the clone %s: %s (%v)", in.ID, wrong, err))
		m.mu.Unlock()
	}
	op, err = m.begin(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.DeleteTenant(ctx, in.ID, ch)
	})
	if err == nil {
		m.await(ctx, stop, op)
	}
	return err
}

// lookInto says what is wrong with a clone, and asks until it is told: its shard may be away.
func (m *mover) lookInto(ctx context.Context, source, clone string) (wrong string, err error) {
	ctx, cancel := context.WithTimeout(ctx, servedFor)
	defer cancel()
	for {
		var at *pgx.Conn
		if at, err = m.open(ctx, clone); err == nil {
			err = at.QueryRow(ctx, `SELECT concat_ws(', ',
				(SELECT count(*) || ' registers' FROM public.registers HAVING count(*) <> $2),
				(SELECT count(*) || ' rows of ballast' FROM public.ballast HAVING count(*) <> $3),
				(SELECT count(*) || ' rows of others' FROM (SELECT tenant FROM public.registers UNION ALL SELECT tenant FROM public.entries) a WHERE tenant <> $1 HAVING count(*) > 0),
				(SELECT count(*) || ' accounts torn' FROM public.accounts a WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM public.entries e WHERE e.account = a.id) HAVING count(*) > 0))`,
				source, maxRegisters, ballast).Scan(&wrong)
			_ = at.Close(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return wrong, err
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
