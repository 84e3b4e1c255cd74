package operation_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/catalog/catalogtest"
	"github.com/freehold-db/freehold/controlplane/operation"
)

// The model: toy operations whose steps leave a mark in a table of their own
// (as a real step does on a shard, outside of the engine's transactions). Two
// engines compete for them. A script drawn beforehand says what befalls a step
// when it comes by a point: it fails, panics, waits, is cancelled, its whole
// engine dies, loses the catalog in the middle of a write, or sleeps until
// another has taken over. Whatever happens, the rules at the end of the file hold.

// mishap befalls step at its point the nth time it comes by.
type mishap struct {
	Step, Visit int
	Point       string // do, done, commit, undo, undone
	What        string
	Writes      int // for "cut": how many messages later
}

type script struct {
	Steps    int
	NoReturn int  // index, or -1
	Commits  bool // the NoReturn step uses Commit
	Mishaps  []mishap
	Rests    int // how often each step says that it goes on later
}

func drawScript(t *rapid.T) script {
	s := script{Steps: rapid.IntRange(1, 4).Draw(t, "steps"), Commits: rapid.IntRange(0, 3).Draw(t, "commits") > 0}
	s.NoReturn = rapid.IntRange(-1, s.Steps-1).Draw(t, "no return")
	s.Rests = rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "rests")
	s.Mishaps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mishap {
		return mishap{
			Step:   rapid.IntRange(0, s.Steps-1).Draw(t, "step"),
			Visit:  rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "visit"),
			Point:  rapid.SampledFrom([]string{"do", "done", "done", "commit", "undo", "undone"}).Draw(t, "point"),
			What:   rapid.SampledFrom([]string{"error", "permanent", "panic", "wait", "kill", "kill", "cut", "cut", "cancel", "cancel", "sleep", "sleep"}).Draw(t, "what"),
			Writes: rapid.IntRange(1, 8).Draw(t, "writes"),
		}
	}), 0, 4).Draw(t, "mishaps")
	if s.Commits && s.NoReturn >= 0 && rapid.IntRange(0, 3).Draw(t, "sleepy") == 0 {
		// The case that the token is for: one who slept commits after another took over.
		s.Mishaps = append(s.Mishaps, mishap{Step: s.NoReturn, Visit: 1, Point: "done", What: "sleep"})
	}
	return s
}

type toy struct {
	Script script
	// Rested counts, for each step, how often it said that it goes on later.
	Rested [4]int
}

// world is one catalog with the toys' marks and two places where an engine runs.
type world struct {
	dsn     string
	store   *catalog.Store // never troubled
	control *operation.Engine
	places  [2]*place
	broken  chan string // rules found broken while running
}

// place runs one engine after the other; each dies when the script says so.
type place struct {
	world *world
	name  string
	proxy *catalogtest.Proxy
	asks  sync.Map // operation → what Cancel said
	seen  sync.Map // operation/step/point → *atomic.Int32
}

const lease = 300 * time.Millisecond

func newWorld(t testing.TB) *world {
	w := &world{broken: make(chan string, 100)}
	w.store, w.dsn = catalogtest.OpenDSN(t)
	_, err := w.store.Pool().Exec(testContext(t), `
		create table marks (operation uuid, step int, primary key (operation, step));
		create table commits (operation uuid, step int, token bigint)`)
	require.NoError(t, err)
	w.control = operation.New(w.store, operation.Options{Logger: quiet})
	for n := 1; n <= 4; n++ {
		operation.Register(w.control, w.kind(nil, n, -1, false))
	}
	for n := 1; n <= 4; n++ {
		for at := range n {
			operation.Register(w.control, w.kind(nil, n, at, false))
			operation.Register(w.control, w.kind(nil, n, at, true))
		}
	}
	return w
}

func kindName(s script) string {
	switch {
	case s.NoReturn < 0:
		return fmt.Sprintf("toy%d", s.Steps)
	case s.Commits:
		return fmt.Sprintf("toy%d-commit%d", s.Steps, s.NoReturn)
	}
	return fmt.Sprintf("toy%d-noreturn%d", s.Steps, s.NoReturn)
}

func (w *world) kind(p *life, steps, noReturn int, commits bool) operation.Kind[toy] {
	k := operation.Kind[toy]{Name: kindName(script{Steps: steps, NoReturn: noReturn, Commits: commits}), Long: steps > 2}
	for i := range steps {
		k.Steps = append(k.Steps, operation.Step[toy]{
			Name: fmt.Sprint(i), NoReturn: i == noReturn, MaxAttempts: 3,
			Do: func(ctx context.Context, r *operation.Run[toy]) error {
				return p.do(ctx, r, i, i == noReturn && commits)
			},
			Undo: func(ctx context.Context, r *operation.Run[toy]) error { return p.undo(ctx, r, i) },
		})
	}
	return k
}

// life is one engine's, from its start to its death.
type life struct {
	*place
	ctx  context.Context
	dead atomic.Bool
	die  func()
}

var errDead = errors.New("dead")

func (l *life) alive() error {
	if l.dead.Load() {
		return errDead
	}
	return nil
}

func (p *place) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := p.live(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) live(ctx context.Context) error {
	store, err := catalog.Open(ctx, p.proxy.DSN)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer store.Close()
	e := operation.New(store, operation.Options{LeaseFor: lease, Logger: quiet, Worker: p.name, Workers: 6})
	l := &life{place: p}
	l.ctx, l.die = context.WithCancel(ctx)
	defer l.die()
	for n := 1; n <= 4; n++ {
		operation.Register(e, p.world.kind(l, n, -1, false))
		for at := range n {
			operation.Register(e, p.world.kind(l, n, at, false))
			operation.Register(e, p.world.kind(l, n, at, true))
		}
	}
	err = e.Run(l.ctx)
	p.proxy.Restore()
	return err
}

// kill is kill -9: not a message more reaches the catalog.
func (l *life) kill() {
	l.dead.Store(true)
	l.proxy.Cut()
	l.die()
}

// meet lets happen what the script has for this point. An error comes back for the step to return.
func (l *life) meet(ctx context.Context, r *operation.Run[toy], step int, point string) error {
	if err := l.alive(); err != nil {
		return err
	}
	counter, _ := l.world.places[0].seen.LoadOrStore(fmt.Sprintf("%s/%d/%s", r.Op.ID, step, point), new(atomic.Int32))
	visit := int(counter.(*atomic.Int32).Add(1))
	for _, m := range r.Data.Script.Mishaps {
		if m.Step != step || m.Point != point || m.Visit != visit {
			continue
		}
		switch m.What {
		case "error":
			return errors.New("mishap")
		case "permanent":
			return operation.Permanent(errors.New("mishap for good"))
		case "panic":
			panic("mishap")
		case "wait":
			return operation.Wait(30*time.Millisecond, "mishap")
		case "kill":
			l.kill()
			return errDead
		case "cut":
			l.proxy.CutAfter(m.Writes)
			time.AfterFunc(150*time.Millisecond, l.proxy.Restore)
		case "cancel":
			l.world.cancel(l.ctx, r.Op.ID)
		case "sleep":
			l.sleep(r)
		}
	}
	return nil
}

// sleep is a process that stands still until another has taken over, and then goes on as if nothing were.
func (l *life) sleep(r *operation.Run[toy]) {
	l.proxy.Pause()
	defer l.proxy.Resume()
	deadline := time.Now().Add(5 * lease)
	for time.Now().Before(deadline) && l.ctx.Err() == nil {
		var token int64
		if err := l.world.store.Pool().QueryRow(l.ctx, `select token from operations where id = $1`, r.Op.ID).Scan(&token); err != nil || token > r.Token() {
			return
		}
		time.Sleep(5 * time.Millisecond) // the wait is bounded above
	}
}

// cancel asks, and remembers what a yes promised.
func (w *world) cancel(ctx context.Context, id string) {
	op, err := w.control.Cancel(ctx, id, catalog.Actor{Name: "bob"})
	switch {
	case err == nil && (op.State == operation.Running || op.State == operation.Pending || op.State == operation.Canceled):
		w.places[0].asks.LoadOrStore(id, operation.Canceled)
	case errors.Is(err, operation.ErrPastNoReturn):
		w.places[0].asks.LoadOrStore(id, operation.Done)
	}
}

func (l *life) exec(sql string, args ...any) error {
	if err := l.alive(); err != nil {
		return err
	}
	_, err := l.world.store.Pool().Exec(l.ctx, sql, args...)
	return err
}

func (w *world) breaks(format string, args ...any) {
	select {
	case w.broken <- fmt.Sprintf(format, args...):
	default: // one is enough
	}
}

func (l *life) do(ctx context.Context, r *operation.Run[toy], step int, commits bool) error {
	if err := l.alive(); err != nil {
		return err
	}
	var recorded int
	err := l.world.store.Pool().QueryRow(l.ctx, `select count(distinct step) from operation_steps
		where operation = $1 and not undo and error = '' and finished_at is not null and step::int < $2`, r.Op.ID, step).Scan(&recorded)
	if err != nil {
		return err
	}
	if recorded != step {
		l.world.breaks("%s: step %d runs with %d earlier ones recorded", r.Op.ID, step, recorded)
	}
	if err := l.meet(ctx, r, step, "do"); err != nil {
		return err
	}
	// One who slept leaves no mark once another has taken over: a real step's work is guarded by its token, too.
	const mark = `insert into marks select id, $2 from operations where id = $1 and token = $3 for share on conflict do nothing`
	if err := l.exec(mark, r.Op.ID, step, r.Token()); err != nil {
		return err
	}
	if err := l.meet(ctx, r, step, "done"); err != nil {
		return err
	}
	// Counted in the document alone: were it not kept, this would never end.
	if r.Data.Rested[step] < r.Data.Script.Rests {
		r.Data.Rested[step]++
		return operation.Again(time.Millisecond, operation.Progress{Percent: float64(r.Data.Rested[step])})
	}
	if !commits {
		return nil
	}
	// A process that slept may be past every look at its context.
	return r.Commit(context.WithoutCancel(ctx), func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `insert into commits values ($1, $2, $3)`, r.Op.ID, step, r.Token()); err != nil {
			return err
		}
		return l.meet(ctx, r, step, "commit")
	})
}

func (l *life) undo(ctx context.Context, r *operation.Run[toy], step int) error {
	if err := l.alive(); err != nil {
		return err
	}
	var past bool
	if err := l.world.store.Pool().QueryRow(l.ctx, `select past_no_return from operations where id = $1`, r.Op.ID).Scan(&past); err != nil {
		return err
	}
	if past {
		l.world.breaks("%s: step %d undone after the point of no return", r.Op.ID, step)
	}
	if err := l.meet(ctx, r, step, "undo"); err != nil {
		return err
	}
	if err := l.exec(`delete from marks where operation = $1 and step = $2`, r.Op.ID, step); err != nil {
		return err
	}
	return l.meet(ctx, r, step, "undone")
}

func TestModel(t *testing.T) {
	t.Parallel()
	if f := flag.Lookup("rapid.checks"); f != nil && f.Value.String() == f.DefValue {
		// Each check takes seconds of real leases; a soak asks for more by -rapid.checks.
		require.NoError(t, flag.Set("rapid.checks", "8"))
		t.Cleanup(func() { _ = flag.Set("rapid.checks", f.DefValue) })
	}
	w := newWorld(t)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range w.places {
		w.places[i] = &place{world: w, name: fmt.Sprintf("place%d", i), proxy: catalogtest.NewProxy(t, w.dsn)}
	}
	for _, p := range w.places {
		wg.Go(func() {
			if err := p.run(ctx); err != nil {
				w.breaks("%s: %v", p.name, err)
			}
		})
	}
	t.Cleanup(func() { stop(); wg.Wait() })

	rapid.Check(t, func(rt *rapid.T) {
		scripts := rapid.SliceOfN(rapid.Custom(drawScript), 4, 8).Draw(rt, "scripts")
		ids := make([]string, len(scripts))
		for i, s := range scripts {
			op, err := w.control.Start(testContext(t), operation.Spec{Kind: kindName(s), Data: toy{Script: s}})
			if err != nil {
				rt.Fatal(err)
			}
			ids[i] = op.ID
		}
		deadline := time.Now().Add(2 * time.Minute)
		for i, id := range ids {
			for {
				op, err := w.control.Get(testContext(t), id)
				if err != nil {
					rt.Fatal(err)
				}
				if op.State.Final() {
					break
				}
				if time.Now().After(deadline) {
					rt.Fatalf("%s (%+v) did not end: %+v", id, scripts[i], op)
				}
				time.Sleep(5 * time.Millisecond) // bounded above
			}
			w.check(rt, id, scripts[i])
		}
		select {
		case rule := <-w.broken:
			rt.Fatal(rule)
		default:
		}
	})
}

// check is the rules that hold for an operation that has ended.
func (w *world) check(t *rapid.T, id string, s script) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	op, err := w.control.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	var marks, commits, open int
	var trail string
	err = w.store.Pool().QueryRow(ctx, `select (select count(*) from marks where operation = $1), (select count(*) from commits where operation = $1),
		(select count(*) from operation_steps where operation = $1 and finished_at is null),
		(select coalesce(string_agg(case when undo then '-' else '+' end || step, ' ' order by id), '') from operation_steps where operation = $1 and error = '')`,
		id).Scan(&marks, &commits, &open, &trail)
	if err != nil {
		t.Fatal(err)
	}
	fail := func(rule string) {
		t.Fatalf("%s: %s: %s, %d marks, %d commits, trail %q, script %+v", id, rule, op.State, marks, commits, trail, s)
	}
	wantMarks, wantCommits := 0, 0
	if op.State == operation.Done {
		wantMarks = s.Steps
		if s.NoReturn >= 0 && s.Commits {
			wantCommits = 1
		}
	}
	switch {
	case marks != wantMarks:
		fail("effects and outcome differ")
	case commits != wantCommits:
		fail("commits and outcome differ")
	case open != 0:
		fail("a line of the journal is open")
	case op.State == operation.Done && s.NoReturn >= 0 && !op.PastNoReturn:
		fail("done without passing the point of no return")
	case op.State == operation.Done && strings.Contains(trail, "-"):
		fail("done, and yet something was undone")
	}
	if promised, ok := w.places[0].asks.Load(id); ok && promised != op.State {
		fail(fmt.Sprintf("cancel promised %s", promised))
	}
}
