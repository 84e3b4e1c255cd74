// Package demo shows Freehold at work, on real servers, in under three minutes:
// a fleet comes up, a dozen tenants get data, applications read and write, one
// tenant moves to another server and back under them, and a node goes away and
// comes back. At the end stands a receipt of what the applications measured.
//
// Nothing on the receipt is asserted by the demo itself: it comes out of the
// book that the client keeps (internal/ledger), the audit of every database
// against it, and the operations' own receipts. What was not measured fails the demo.
//
// Import law: demo is part of cli and may import everything below it.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/telemetry"
)

const (
	lastsAtMost = 165 * time.Second
	cleanUpFor  = 60 * time.Second
	// What the traffic does by itself before, between and after the events.
	breath = 3 * time.Second
	// nodeAwayFor is how long a data-plane node stays stopped.
	nodeAwayFor = 3 * time.Second
)

// Options say where and how the demo plays. Zero fields take the defaults.
type Options struct {
	// Dir holds the fleet; it must be empty or not there yet. Default: a temporary directory.
	Dir string
	// Keep leaves the fleet's files in Dir, so that `tenant-ops dev --dir DIR` resumes it.
	Keep bool
	// TLS has every link of the fleet be by TLS.
	TLS bool
	// Out gets the story as it happens; nil for none.
	Out io.Writer
	// BigBytes is about how large the moved tenant is; default 200 MB.
	BigBytes int64

	// What tests have otherwise: how long it may last, servers that need not outlive
	// the machine, and less traffic, so that no node on a busy machine sheds any.
	atMost     time.Duration
	fastUnsafe bool
	traffic    float64 // share of the usual rates; default 1
}

// ErrUnsound: the demo ran to its end and its receipt shows something that must not be.
var ErrUnsound = errors.New("the receipt shows what must not be")

// play is one run of the demo.
type play struct {
	opts   Options
	show   *show
	fleet  *dev.Fleet
	admin  *client.Client
	signer *issuer.Signer
	result Result
}

// Run plays the demo. Whatever happens, what it started is stopped, and what it
// made is removed unless opts.Keep says otherwise. It fails with [ErrUnsound]
// when anything on the receipt is wrong; the Result says what.
func Run(ctx context.Context, opts Options) (result Result, err error) {
	if opts.Out == nil {
		opts.Out = io.Discard
	}
	if opts.BigBytes == 0 {
		opts.BigBytes = 200e6
	}
	if opts.atMost == 0 {
		opts.atMost = lastsAtMost
	}
	if opts.traffic == 0 {
		opts.traffic = 1
	}
	if err := prepare(&opts); err != nil {
		return Result{}, err
	}
	p := &play{opts: opts, show: newShow(opts.Out)}
	closeLog, err := logTo(opts.Dir)
	if err != nil {
		return Result{}, err
	}
	defer closeLog()
	defer func() {
		err = errors.Join(err, p.cleanUp(context.WithoutCancel(ctx)))
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, opts.atMost, fmt.Errorf("the demo did not end in %s", opts.atMost))
	defer cancel()
	if err := p.perform(ctx); err != nil {
		p.show.end()
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = errors.Join(cause, err)
		}
		return p.result, err
	}
	return p.result, p.result.verdict()
}

// prepare makes sure of a directory that is the demo's own: at the end it is removed.
func prepare(opts *Options) error {
	if opts.Dir == "" {
		// Not os.TempDir: the servers' account must be able to pass through.
		dir, err := os.MkdirTemp("/var/tmp", "freehold-demo-")
		if err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		opts.Dir = dir
		return nil
	}
	entries, err := os.ReadDir(opts.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("demo: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("demo: %s is not empty; name a directory that is, or none", opts.Dir)
	}
	if err := os.MkdirAll(opts.Dir, 0o711); err != nil { //nolint:gosec // the servers' account passes through
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

// logTo keeps what the parts in this process log out of the story.
func logTo(dir string) (restore func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, "demo.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	before := slog.Default()
	slog.SetDefault(slog.New(telemetry.NewLogHandler(file, slog.LevelInfo, false)))
	return func() { slog.SetDefault(before); _ = file.Close() }, nil
}

func (p *play) perform(ctx context.Context) error {
	began := time.Now()
	for _, act := range []func(context.Context) error{p.bringUp, p.settle, p.fill, p.live} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	p.result.Seconds = time.Since(began).Seconds()
	return nil
}

// bringUp starts the fleet.
func (p *play) bringUp(ctx context.Context) error {
	done := p.show.begin("Starting a fleet: 3 Postgres shards with PgBouncer, catalog, NATS, control plane, 2 data-plane nodes")
	fleet, err := dev.Start(ctx, dev.Options{Dir: p.opts.Dir, Shards: 3, Nodes: 2, TLS: p.opts.TLS, FastUnsafe: p.opts.fastUnsafe, Progress: p.show.live})
	if err != nil {
		return err
	}
	p.fleet = fleet
	info := fleet.Info()
	if p.admin, err = info.Client(); err != nil {
		return err
	}
	if p.signer, err = issuer.Open(dev.IssuerDir(p.opts.Dir)); err != nil {
		return err
	}
	done("")
	return nil
}

// cleanUp stops the fleet and removes its files.
func (p *play) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUpFor)
	defer cancel()
	var err error
	if p.fleet != nil {
		done := p.show.begin("Stopping the fleet")
		if p.admin != nil {
			p.admin.Close()
		}
		if err = p.fleet.Stop(ctx); err == nil {
			done("")
		}
	}
	if p.opts.Keep {
		p.show.say("Kept in " + p.opts.Dir + "; `tenant-ops dev --dir " + p.opts.Dir + "` resumes it.")
		return err
	}
	if err == nil {
		err = dev.Destroy(ctx, p.opts.Dir)
	}
	return errors.Join(err, os.RemoveAll(p.opts.Dir))
}
