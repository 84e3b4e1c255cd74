package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/freehold-db/freehold/internal/secret"
)

// storeReady tells whether the secret store has answered since the node was
// started. One that was started while it is sealed has no login of anybody and
// can serve nobody: it must not take the place of a node that has.
type storeReady struct {
	store    secret.Store
	log      *slog.Logger
	answered atomic.Bool // once true, it stays: logins are leased
	said     atomic.Bool
}

// probed names no tenant's database: that there is nothing there is an answer.
const probed = "t_0000000000000000"

func (r *storeReady) ready() error {
	if r.answered.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeFor)
	defer cancel()
	_, _, err := r.store.Get(ctx, secret.DatabaseAuth(probed))
	if err != nil && !errors.Is(err, secret.ErrNotFound) {
		if !r.said.Swap(true) {
			r.log.Warn("this node has no login of anybody and serves nobody until the secret store answers (is Vault sealed?)", "error", err)
		}
		return fmt.Errorf("the secret store has not answered since the start: %w", err)
	}
	r.answered.Store(true)
	return nil
}
