// Package anchor keeps what the audit log is held to at places that whoever
// rewrites the audit database does not reach: a JetStream stream, every shard,
// a directory. It signs the log at intervals, carries the checkpoints there,
// and asks all places when somebody checks the log.
//
// Import law: of this module, anchor imports shardmap, internal packages, controlplane/catalog, audit, audit/proof and shard only.
package anchor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/internal/sleep"
)

// Place keeps checkpoints outside of the audit database.
type Place interface {
	// Name says where in reports: "stream", "shard/s1", "directory".
	Name() string
	// Keep adds a signed checkpoint; one that is there already is no error.
	Keep(ctx context.Context, size int64, note string) error
	// Newest is what the place has of the end of the log: the checkpoint of the largest
	// size (more than one if it holds another log's, too), and its own copy of the records.
	Newest(ctx context.Context) ([]proof.Anchor, error)
	// Held yields the checkpoints of sizes up to one, in the order of their sizes.
	Held(ctx context.Context, size int64) iter.Seq2[string, error]
}

// Places lists what there is now; the fleet grows.
type Places func(ctx context.Context) ([]Place, error)

const (
	defaultEvery = time.Minute
	// keepFor bounds one round to all places, askFor what one of them has last.
	keepFor = 30 * time.Second
	askFor  = 2 * time.Minute
	// again is when a place that has the newest checkpoint is given it once more: it may have let it go.
	again = time.Hour
	// leaveFor bounds the last round, when the replica stops.
	leaveFor = 5 * time.Second
	// atOnce is how many places are spoken to at the same time.
	atOnce = 8
)

// Options of [New]. Zero values mean the default in brackets.
type Options struct {
	Every    time.Duration // between checkpoints, if the log grew [1 min]
	Registry prometheus.Registerer
	Logger   *slog.Logger // [slog.Default()]
}

// Keeper signs the log and keeps the places up to date. Any number of replicas may run one.
type Keeper struct {
	log    *audit.Log
	signer *proof.Signer
	places Places
	opt    Options

	mu    sync.Mutex
	since proof.Checkpoint // what this replica signed or saw last
	kept  map[string]kept  // by place

	signed, tampered, behind prometheus.Gauge
}

// kept is the last checkpoint that a place took.
type kept struct {
	size int64
	at   time.Time
}

// New makes a keeper of log, which signs with signer.
func New(log *audit.Log, signer *proof.Signer, places Places, opt Options) *Keeper {
	if opt.Every <= 0 {
		opt.Every = defaultEvery
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	k := &Keeper{log: log, signer: signer, places: places, opt: opt, kept: map[string]kept{},
		signed:   gauge("freehold_audit_checkpoint_records", "Records of the audit log that the newest checkpoint covers."),
		tampered: gauge("freehold_audit_tampered", "1 if the audit log is not what was signed before: nothing is signed any more."),
		behind:   gauge("freehold_audit_anchors_behind", "Places that do not have the newest checkpoint of the audit log yet."),
	}
	if opt.Registry != nil {
		opt.Registry.MustRegister(k.signed, k.tampered, k.behind)
	}
	return k
}

// Run signs at intervals until ctx ends, then once more, and returns nil.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		k.round(ctx, keepFor)
		_ = sleep.For(ctx, k.opt.Every) // the loop looks whether ctx ended
	}
	k.round(context.WithoutCancel(ctx), leaveFor)
	return nil
}

func (k *Keeper) round(ctx context.Context, atMost time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	if err := k.Anchor(ctx); err != nil {
		k.opt.Logger.WarnContext(ctx, "audit log is not anchored everywhere", slog.Any("error", err))
	}
}

// Anchor signs the log if it grew, and carries the newest checkpoint to every
// place that lacks it. The error joins what went wrong with any of them;
// [audit.ErrTampered]: the log is not what was signed before.
func (k *Keeper) Anchor(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, err := k.log.Sign(ctx, k.signer, k.since)
	switch {
	case errors.Is(err, audit.ErrTampered):
		k.tampered.Set(1)
		k.opt.Logger.ErrorContext(ctx, "AUDIT LOG WAS CHANGED; run tenant-ops audit verify", slog.Any("error", err))
		return err
	case errors.Is(err, audit.ErrRetired): // a replica with the new key signs, unless somebody slipped a key in
		k.opt.Logger.WarnContext(ctx, "this replica does not sign the audit log: there is a newer key than its own")
		c, err = k.log.Latest(ctx)
	}
	if err != nil {
		return err
	}
	k.tampered.Set(0)
	if c.Size == 0 {
		return nil
	}
	if k.since, err = proof.Peek([]byte(c.Note)); err != nil {
		return fmt.Errorf("checkpoint of %d records: %w", c.Size, errors.Join(err, audit.ErrTampered))
	}
	k.signed.Set(float64(c.Size))
	return k.carry(ctx, c)
}

func (k *Keeper) carry(ctx context.Context, c audit.Checkpoint) error {
	places, err := k.places(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, len(places))
	g := new(errgroup.Group)
	g.SetLimit(atOnce)
	for i, p := range places {
		if had := k.kept[p.Name()]; had.size != c.Size || time.Since(had.at) > again {
			g.Go(func() error { errs[i] = p.Keep(ctx, c.Size, c.Note); return nil })
		}
	}
	_ = g.Wait() // none returns an error
	var failed []error
	for i, p := range places {
		if errs[i] != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.Name(), errs[i]))
		} else {
			if had := k.kept[p.Name()]; had.size != c.Size || time.Since(had.at) > again {
				k.kept[p.Name()] = kept{c.Size, time.Now()}
			}
		}
	}
	k.behind.Set(float64(len(failed)))
	return errors.Join(failed...)
}
