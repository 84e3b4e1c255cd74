package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/test/chaos/network"
	"github.com/freehold-db/freehold/test/fleet"
)

// hands do what a schedule says.
type hands struct {
	f    *fleet.Fleet
	net  *network.Network
	disk *disk  // nil: none can be full here
	ask  *mover // who asks the control plane
}

// errNothing: there is nothing that the fault could be done to just now.
var errNothing = errors.New("nothing to do it to")

// heal mends a fault and returns when what was broken serves again.
type heal func(context.Context) error

// inject does a fault. Errors: errNothing, and what must not fail.
func (h *hands) inject(ctx context.Context, f fault) (heal, error) {
	again := func(ctx context.Context) error { return h.bringUp(ctx, f.To) }
	switch f.Verb {
	case kills:
		return again, h.f.Kill(f.To)
	case empties:
		if err := h.f.Kill(f.To); err != nil {
			return nil, err
		}
		return again, os.RemoveAll(filepath.Join(h.f.Dir(), f.To))
	case restarts:
		ended := h.f.Ended(f.To)
		if err := h.signal(f.To, syscall.SIGQUIT); err != nil {
			return nil, err
		}
		select {
		case <-ended:
			return again, nil
		case <-ctx.Done():
			return nil, fmt.Errorf("%s does not stop: %w", f.To, ctx.Err())
		}
	case freezes:
		return func(context.Context) error { return h.signal(f.To, syscall.SIGCONT) }, h.signal(f.To, syscall.SIGSTOP)
	case cuts, silences, slows:
		mend := h.net.Break(f.From, f.To, f.Condition)
		return func(context.Context) error { mend(); return nil }, nil
	case fills:
		if h.disk == nil {
			return nil, errNothing
		}
		return func(ctx context.Context) error {
			// Postgres may have given up: it does when not even its log can grow.
			return errors.Join(h.disk.empty(), h.bringUp(ctx, f.To))
		}, h.disk.fill()
	case drops:
		return func(context.Context) error { return nil }, h.dropSlot(ctx)
	case drains:
		shard := strings.TrimPrefix(f.To, "postgres-")
		return func(ctx context.Context) error { return h.undrain(ctx, shard) }, h.drain(ctx, shard)
	case evens:
		return func(context.Context) error { return nil }, h.even(ctx)
	case rotates:
		return func(context.Context) error { return nil }, h.rotate(ctx, strings.TrimPrefix(f.To, "postgres-"))
	}
	return nil, fmt.Errorf("%v: no such verb", f)
}

func (h *hands) signal(part string, s syscall.Signal) error {
	pid := h.f.Fleet.Info().PIDs[part]
	if pid == 0 {
		return fmt.Errorf("%s is dead already", part)
	}
	return syscall.Kill(pid, s)
}

// bringUp starts a part until it stays up: what it leans on may still be away.
func (h *hands) bringUp(ctx context.Context, part string) error {
	for {
		err := h.f.Launch(ctx, part)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// drain has a shard emptied by a run, while all the others go on.
func (h *hands) drain(ctx context.Context, shard string) error {
	return h.unlessRefused(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.DrainShard(ctx, shard, ch) // an earlier run may wind down, or there is nowhere else to go
	})
}

// even has tenants spread over the shards by a plan's run.
func (h *hands) even(ctx context.Context) error {
	var plan api.RebalancePlan
	err := h.unlessRefused(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (_ api.Operation, err error) {
		plan, err = c.MakePlan(ctx, api.MakePlan{}, ch)
		return api.Operation{}, err
	})
	if err != nil {
		return err
	}
	if plan.MoveCount == 0 {
		return errNothing
	}
	return h.unlessRefused(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.ApplyPlan(ctx, plan.ID, ch)
	})
}

// rotate gives a shard another admin login, while operations go on by the one before.
func (h *hands) rotate(ctx context.Context, shard string) error {
	return h.unlessRefused(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		return c.RotateSecrets(ctx, client.Rotation{Shard: shard}, ch) // one may be under way
	})
}

// unlessRefused begins what is then left to itself.
func (h *hands) unlessRefused(ctx context.Context, ask func(context.Context, *client.Client, client.Change) (api.Operation, error)) error {
	_, err := h.ask.begin(ctx, ask)
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status < http.StatusInternalServerError {
		return fmt.Errorf("%w: %w", errNothing, err)
	}
	return err
}

// undrain has the shard take tenants again; moves that were begun end by themselves.
func (h *hands) undrain(ctx context.Context, shard string) error {
	_, err := h.ask.begin(ctx, func(ctx context.Context, c *client.Client, ch client.Change) (api.Operation, error) {
		_, err := c.UndrainShard(ctx, shard, ch)
		return api.Operation{}, err
	})
	var refused *client.Error
	if errors.As(err, &refused) && refused.Status == http.StatusConflict { // it was done, and the answer lost
		return nil
	}
	return err
}

// waitForSlot bounds the wait for a move to have one.
const waitForSlot = 10 * time.Second

// dropSlot drops the slot of some move.
func (h *hands) dropSlot(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, waitForSlot)
	defer cancel()
	for {
		for _, s := range h.f.Fleet.Info().Shards {
			dropped, err := dropSlotAt(ctx, s.PostgresDSN)
			if err == nil && dropped {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errNothing
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func dropSlotAt(ctx context.Context, dsn string) (dropped bool, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // done with it
	var slot string
	err = conn.QueryRow(ctx, `SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical' AND NOT temporary ORDER BY random() LIMIT 1`).Scan(&slot)
	if err != nil {
		return false, err
	}
	for range 50 { // its subscriber comes back soon
		_, err = conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL`, slot)
		if err == nil {
			_, err = conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", slot)
		}
		if err == nil {
			return true, nil
		}
	}
	return false, err
}
