package copies

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/sleep"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	keepEvery = time.Minute
	// unmadeFor is after which time an upload that nobody finished is given up.
	unmadeFor = 24 * time.Hour
)

// keeper acts where nobody asked.
var keeper = catalog.Actor{Name: "system", Role: "system", Reason: "the copy has expired"}

// Run takes expired copies away, and files that came to nothing, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	for {
		if err := s.Tidy(ctx); err != nil && ctx.Err() == nil {
			s.opt.Logger.WarnContext(ctx, "copies are not looked after", "error", err)
		}
		if err := sleep.For(ctx, keepEvery/2+rand.N(keepEvery)); err != nil {
			return err
		}
	}
}

// Tidy does all that is due now. Several replicas may do it at the same time.
func (s *Service) Tidy(ctx context.Context) error {
	if s.shelf.dir == "" {
		return nil
	}
	due, _, err := s.store.ListCopies(ctx, catalog.CopyFilter{Expired: true}, catalog.Page{Limit: 1000}) // what is beyond comes next time
	if err != nil {
		return err
	}
	var failed []error
	for _, c := range due {
		failed = append(failed, s.drop(ctx, c, "expired", keeper))
	}
	return errors.Join(append(failed, s.sweep(ctx))...)
}

// sweep takes away files of copies that are gone, and those that a worker wrote
// which had lost its lease. A file that the catalog knows nothing of is another
// catalog's, and left.
func (s *Service) sweep(ctx context.Context) error {
	names, err := s.shelf.names()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		id := namePattern.FindStringSubmatch(name)[1]
		c, err := s.store.GetCopy(ctx, id)
		if errors.Is(err, catalog.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		switch {
		case c.State == catalog.CopyGone:
			failed = append(failed, s.shelf.remove(id))
		case c.State == catalog.CopyHeld && name != c.File:
			failed = append(failed, s.shelf.removeFile(name))
		case c.State == catalog.CopyMaking && c.Origin == catalog.CopyUploaded && time.Since(c.CreatedAt) > unmadeFor:
			failed = append(failed, s.drop(ctx, c, "abandoned", keeper))
		}
	}
	return errors.Join(failed...)
}

// Erased takes away every copy of an erased tenant that is in our hands, and
// returns all whose file may have been somewhere when it was condemned: those,
// and what was handed out and has not expired.
func (s *Service) Erased(ctx context.Context, id shardmap.TenantID, actor catalog.Actor) ([]catalog.Copy, error) {
	all, err := s.all(ctx, catalog.CopyFilter{Tenant: id})
	if err != nil {
		return nil, err
	}
	var left []catalog.Copy
	for _, c := range all {
		here := c.State != catalog.CopyGone
		if here {
			if err := s.drop(ctx, c, "erased", actor); err != nil {
				return nil, err
			}
		}
		if here || c.WhyGone == "erased" || c.HandedOut > 0 && time.Now().Before(c.ExpiresAt) {
			left = append(left, c)
		}
	}
	return left, nil
}
