package rotation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

// keeperAtOnce bounds the rotations that are under way because they were due.
const keeperAtOnce = 4

// Run rotates what gets too old, and tells the ages, until ctx ends; then it
// returns nil. Several replicas do no more than one: a tenant has one operation.
func (s *Service) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := s.tend(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "scheduled rotation of credentials", "error", err)
		}
		_ = sleep.For(ctx, s.opt.LookEvery/2+rand.N(s.opt.LookEvery)) //nolint:gosec // jitter
	}
	return nil
}

func (s *Service) tend(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ages, err := s.store.OldestCredentials(ctx)
	if err != nil {
		return err
	}
	s.oldest.Reset()
	for kind, age := range ages {
		s.oldest.WithLabelValues(string(kind)).Set(age.Seconds())
	}
	if s.opt.Every <= 0 {
		return nil
	}
	running, err := s.store.RotationsUnderWay(ctx, KindRotate, KindShard)
	if err != nil || running >= keeperAtOnce {
		return err
	}
	due, err := s.store.DueCredentials(ctx, s.opt.Every, keeperAtOnce-running)
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range due {
		actor := system(fmt.Sprintf("issued %s ago", c.Age.Round(time.Second)))
		if c.Kind == catalog.ShardCredential {
			_, err = s.RotateShard(ctx, shardmap.ShardID(c.Subject), actor, "")
		} else {
			_, err = s.Rotate(ctx, shardmap.TenantID(c.Subject), actor, "")
		}
		if err != nil && !errors.Is(err, catalog.ErrBusy) {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}
