package data

import (
	"context"

	"github.com/freehold-db/freehold/controlplane/move/pace"
	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// Comparison compares a source at rest with the target in an exported snapshot.
type Comparison struct {
	Source, Target Connect
	Snapshot       string // exported at the target; kept alive by the caller
	Tables         []survey.Table
	Streams        int
	Pace           *pace.Pace     // may hold it back; nil: nothing does
	Progress       func(Progress) // called from many goroutines, often
}

// Run compares all tables. Errors: [*MismatchError].
func (c Comparison) Run(ctx context.Context) (Report, error) {
	r := &run{Job: Job{Source: c.Source, Target: c.Target, Snapshot: c.Snapshot, Tables: c.Tables, Streams: c.Streams, Pace: c.Pace, Progress: c.Progress},
		queue: newQueue(), sides: map[uint32]*sides{}, targetSnapshot: true}
	for _, t := range c.Tables {
		r.total += t.Bytes
		r.sides[t.OID] = &sides{}
	}
	r.compare(c.Tables, true)
	r.compare(c.Tables, false)
	if len(c.Tables) > 0 {
		if err := r.queue.run(ctx, max(1, c.Streams), r.Pace.Turn, r.open); err != nil {
			return Report{}, err
		}
	}
	rep, err := r.report()
	for _, s := range rep.Sums {
		rep.Rows += s.Rows
	}
	return rep, err
}
