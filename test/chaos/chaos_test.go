package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/test/chaos/history"
	"github.com/freehold-db/freehold/test/chaos/network"
	"github.com/freehold-db/freehold/test/fleet"
)

var (
	faultsFlag = flag.Int("faults", 0, "how many faults; 0: the short form, one of each kind")
	seedFlag   = flag.Uint64("seed", 0, "what the schedule of faults follows from; 0: 1 in the short form, else the time")
	outFlag    = flag.String("out", "", "directory for report, schedule, history and logs; without, they are kept when the test fails")
)

const (
	servedFor = 90 * time.Second // until every tenant is served again after a fault, on a machine that is busy
	mendFor   = 2 * time.Minute  // until what was broken is up again
	judgeFor  = time.Minute      // the history of one register
)

// storm is one run: a fleet, its clients, its moves, and what is done to it.
type storm struct {
	t      *testing.T
	f      *fleet.Fleet
	net    *network.Network
	hands  hands
	load   *load
	mover  *mover
	lanes  []*lane
	report *report
	out    string
	diary  *os.File
}

// TestChaos does a schedule of faults to a whole fleet, while clients read and
// write over REST and over the wire and tenants move, and judges what the
// clients were told. A failure's schedule is repeated by its seed.
func TestChaos(t *testing.T) {
	n, seed, dealt, shardCount, tenants := *faultsFlag, *seedFlag, deck(), 3, []string{"amber", "birch", "cedar"}
	idle := []string{"elder", "fir", "hazel", "juniper", "larch"} // only runs move these, so that there is something to even out
	if n == 0 {
		dealt, shardCount, tenants, idle = shortDeck(), 2, tenants[:2], nil
		n, seed = len(dealt), max(seed, 1)
	}
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) //nolint:gosec // any number
	}
	p := partsOf(shardCount)
	s := prepare(t, seed, shardCount, p)
	faults := schedule(seed, n, dealt, p)
	s.keep("schedule.json", faults)
	s.connect(tenants)
	for _, tenant := range idle {
		s.f.Create(t, tenant, s.mover.shards[0])
	}
	s.mover.impatient = *faultsFlag == 0

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients, moves sync.WaitGroup
	for i, l := range s.lanes {
		for j := range 2 {
			w := s.way(l)
			clients.Go(func() { s.load.run(ctx, w, l, 2*i+j) })
		}
	}
	t.Cleanup(clients.Wait)
	t.Cleanup(cancel)
	s.served("at the beginning")
	calm := make(chan struct{})
	for i := range 2 {
		moves.Go(func() { s.mover.run(ctx, calm, tenants, seed+uint64(i)) })
	}
	s.doAll(faults)
	close(calm)
	moves.Wait()
	s.settled()
	s.served("after the last move")
	cancel()
	clients.Wait()
	s.report.Seconds = time.Since(s.load.began).Seconds()
	s.judge(tenants, idle)
	s.finish()
}

// doAll does one fault after the other, and after each has everything mended
// and every tenant served again, before the next one.
func (s *storm) doAll(faults []fault) {
	type broken struct {
		fault
		heal heal
		from time.Duration
	}
	var open []broken
	for _, f := range faults {
		from := time.Since(s.load.began)
		s.log("%v", f)
		ctx, cancel := context.WithTimeout(s.t.Context(), mendFor)
		mend, err := s.hands.inject(ctx, f)
		cancel()
		switch {
		case errors.Is(err, errNothing):
			s.report.Missed++
			s.log("%v: %v", f, err)
			continue
		case err != nil:
			s.report.wrong("%v: %v", f, err)
			return
		}
		open = append(open, broken{f, mend, from})
		time.Sleep(f.For) // as long as the schedule says
		if f.Overlaps {
			continue
		}
		ctx, cancel = context.WithTimeout(s.t.Context(), mendFor)
		var all errgroup.Group
		for _, b := range open {
			all.Go(func() error { return b.heal(ctx) })
		}
		err = errors.Join(all.Wait(), s.raise(ctx, f))
		cancel()
		if err != nil {
			s.report.wrong("%v is not mended: %v", f, err)
			return
		}
		if !s.served(f.String()) {
			return
		}
		for _, b := range open {
			s.report.add(b.fault, s.lanes, b.from, time.Since(s.load.began))
		}
		open = nil
	}
}

// raise starts what has died by itself, as a supervisor would, and notes it.
func (s *storm) raise(ctx context.Context, f fault) error {
	pids := s.f.Fleet.Info().PIDs
	for _, part := range s.f.Names() {
		if pids[part] != 0 {
			continue
		}
		s.log("%s has ended by itself", part)
		s.report.Died[part+" on "+f.Kind]++
		if err := s.hands.bringUp(ctx, part); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

// served waits until every tenant has had a write acknowledged by every way, and notes who has not.
func (s *storm) served(after string) bool {
	sent := time.Since(s.load.began)
	deadline := time.Now().Add(servedFor)
	for _, l := range s.lanes {
		for !l.served(sent) {
			if time.Now().After(deadline) {
				s.report.wrong("%s is not served again %s %s", l.name(), servedFor, after)
				s.log("%s is not served again %s", l.name(), after)
				return false
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return true
}

// settled waits for what nobody watches: the runs of drains and plans, which end
// after their moves, and rotations of shards' logins.
func (s *storm) settled() {
	deadline := time.Now().Add(endFor)
	for {
		var open []string
		err := s.mover.admins.ask(s.t.Context(), func(ctx context.Context, c *client.Client) error {
			open = nil
			for op, err := range c.Operations(ctx, client.OperationFilter{Unfinished: true}) {
				if err != nil {
					return err
				}
				open = append(open, fmt.Sprintf("%s %s %s in step %s, waiting %q, error %q", op.Kind, op.ID, op.Tenant, op.Step, op.Progress.Waiting, op.Error))
			}
			return nil
		})
		if err == nil && len(open) == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.report.wrong("operations do not end %s after the last fault: %v (%v)", endFor, open, err)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// log writes a line into the diary, and the test's log.
func (s *storm) log(format string, args ...any) {
	line := fmt.Sprintf("%s %8.3f  %s\n", time.Now().UTC().Format("15:04:05.000"), time.Since(s.load.began).Seconds(), fmt.Sprintf(format, args...))
	_, err := s.diary.WriteString(line)
	require.NoError(s.t, err)
}

func (s *storm) keep(name string, v any) {
	b, err := json.MarshalIndent(v, "", " ")
	require.NoError(s.t, err)
	require.NoError(s.t, os.WriteFile(filepath.Join(s.out, name), b, 0o600))
}

// finish prints the report, and keeps everything when something is wrong or was asked for.
func (s *storm) finish() {
	r := s.report
	r.Moves, r.MoveErrs = s.mover.ends, s.mover.errors
	r.Operations, r.Unknown, r.Failures, r.Examples = s.load.total, s.load.unknown, s.load.failures, s.load.examples
	for _, stuck := range s.mover.stuck {
		r.wrong("operation does not end: %s", stuck)
	}
	r.Wrong = append(r.Wrong, s.mover.wrong...)
	require.NoError(s.t, r.write(filepath.Join(s.out, "report.json")))
	s.t.Logf("\n%v", r)
	if len(r.Wrong) > 0 {
		s.keep("history.json", s.load.log.Ops())
	}
	if len(r.Wrong) > 0 || *outFlag != "" {
		kept := *outFlag
		if kept == "" {
			dir, err := os.MkdirTemp("", "freehold-chaos-")
			require.NoError(s.t, err)
			kept = filepath.Join(dir, "out")
		}
		if kept != s.out {
			require.NoError(s.t, os.CopyFS(kept, os.DirFS(s.out)))
		}
		require.NoError(s.t, os.CopyFS(filepath.Join(kept, "log"), os.DirFS(filepath.Join(s.f.Dir(), "log"))))
		s.t.Logf("report, schedule, diary and logs: %s; again: make chaos SEED=%d FAULTS=%d", kept, r.Seed, *faultsFlag)
	}
	for _, w := range r.Wrong {
		s.t.Error(w)
	}
}

// judge holds what the clients were told against what there is.
func (s *storm) judge(tenants, idle []string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	var found []history.Found
	for _, tenant := range tenants {
		one, reads, err := s.look(ctx, tenant)
		if err != nil {
			s.report.wrong("the database of %s cannot be looked into: %v", tenant, err)
			return
		}
		found = append(found, one)
		for _, o := range reads {
			s.load.log.Add(o)
		}
	}
	for _, tenant := range slices.Concat(tenants, idle) {
		if err := s.servedOnce(ctx, tenant); err != nil {
			s.report.wrong("%v", err)
		}
	}
	r := s.report
	r.Ledger = s.load.book.Audit(found)
	r.Lost, r.Doubled, r.Crossed = r.Ledger.Lost, r.Ledger.Doubled, r.Ledger.Crossed+int(s.load.crossed.Load())+r.Crossed
	if r.Ledger.Faults() > 0 || r.Crossed > 0 {
		r.wrong("lost %d, doubled %d, crossed %d, ghosts %d, torn %d: %v", r.Lost, r.Doubled, r.Crossed, r.Ledger.Ghosts, r.Ledger.Torn, r.Ledger.Details)
	}
	verdicts := history.Wrong(s.load.log.Ops(), judgeFor)
	for _, v := range verdicts {
		if v.Undecided {
			r.wrong("the history of %v could not be judged in %s", v.Register, judgeFor)
			continue
		}
		r.NotLinearizable++
		r.wrong("the history of %v is of no single database", v.Register)
	}
	if len(verdicts) > 0 {
		s.keep("verdicts.json", verdicts)
	}
	if s.load.total == 0 || r.Ledger.Transactions == 0 {
		r.wrong("nothing was measured")
	}
}
