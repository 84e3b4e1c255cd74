package move

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/controlplane/move/data"
	"github.com/freehold-db/freehold/controlplane/move/diff"
	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// verify compares the frozen source with the target as it was at the barrier.
// A difference is no reason to go back, for the target has taken writes since:
// it is told loudly, and the source is kept.
func (s *Service) verify(ctx context.Context, r *run) error {
	start := time.Now()
	v := &r.Data.Receipt.Verification
	c := s.take(r.Op.ID)
	if c != nil {
		defer c.close()
	}
	if c == nil || c.snapshot == "" {
		v.Final = NotVerified
		v.Detail = append(v.Detail, "the worker that made the cutover ended before the final comparison, and with it the target's snapshot of the barrier: only the copy was compared")
		return r.SetReceipt(r.Data.Receipt)
	}
	report, err := s.compare(ctx, r, c)
	var differ *data.MismatchError
	switch {
	case errors.As(err, &differ):
		v.Final = Mismatch
		v.Detail = append(v.Detail, differ.Tables...)
		s.opt.Logger.Error("move: SOURCE AND TARGET DIFFER; the source is kept", "operation", r.Op.ID, "tenant", r.Data.Tenant, "tables", differ.Tables)
	case err != nil:
		if !c.alive(ctx) { // the snapshot went with its connection
			v.Final = NotVerified
			v.Detail = append(v.Detail, "the final comparison could not be finished: "+err.Error())
			break
		}
		return err
	default:
		v.Final, v.Tables, v.Rows = Equal, report.Tables, report.Rows
	}
	r.Data.Receipt.phase("verify", start)
	return r.SetReceipt(r.Data.Receipt)
}

func (c *crew) alive(ctx context.Context) bool { return c.dstSnap.Ping(ctx) == nil }

func (s *Service) compare(ctx context.Context, r *run, c *crew) (data.Report, error) {
	src, err := s.connect(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return data.Report{}, err
	}
	defer closeConn(src)
	tables, err := survey.Tables(ctx, src)
	if err != nil {
		return data.Report{}, err
	}
	from, err := s.fleet.Mover(ctx, r.Data.From.Shard, r.Data.database())
	if err != nil {
		return data.Report{}, err
	}
	defer from.Close()
	to, err := s.fleet.Mover(ctx, r.Data.To, r.Data.database())
	if err != nil {
		return data.Report{}, err
	}
	defer to.Close()
	p, stop := s.paced(ctx, r)
	defer stop()
	cmp := data.Comparison{
		Source: reader(from), Target: reader(to),
		Snapshot: c.snapshot, Tables: tables, Streams: s.opt.Streams, Pace: p,
		Progress: func(p data.Progress) {
			out := operation.Progress{Phase: fmt.Sprintf("comparing %d tables", len(tables)), BytesDone: p.Compared, BytesTotal: p.Total}
			if p.Total > 0 {
				out.Percent = 100 * float64(p.Compared) / float64(p.Total)
			}
			r.Report(out)
		},
	}
	return cmp.Run(ctx)
}

// compareObjects compares, when the copy is done and the guard keeps the
// source's schema, everything of both databases but rows. What differs is told
// and stops nothing: pg_restore has made all of it, or failed.
func (c *copier) compareObjects(ctx context.Context) error {
	start, v := time.Now(), &c.r.Data.Receipt.Verification
	defer func() { c.r.Data.Receipt.phase("copy/objects", start) }()
	found, err := diff.Objects(ctx, c.src, c.dst)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		v.Objects = NotVerified
		v.Detail = append(v.Detail, "what is no row could not be compared: "+err.Error())
		return nil
	}
	v.Objects = Equal
	if len(found) > 0 {
		v.Objects = Mismatch
		c.s.opt.Logger.Error("move: SOURCE AND TARGET DIFFER beside rows", "operation", c.r.Op.ID, "tenant", c.r.Data.Tenant, "objects", len(found), "first", found[0].String())
	}
	for i, o := range found {
		if i == 50 {
			v.Detail = append(v.Detail, fmt.Sprintf("and %d more", len(found)-i))
			break
		}
		v.Detail = append(v.Detail, o.String())
	}
	return nil
}
