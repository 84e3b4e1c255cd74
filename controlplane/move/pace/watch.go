package pace

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/internal/sleep"
)

const (
	// lookEvery is how often servers are asked.
	lookEvery = 500 * time.Millisecond
	// lookFor bounds one question; lookAgain is the pause after one that failed.
	lookFor   = 5 * time.Second
	lookAgain = 5 * time.Second
)

// Server is one that is watched.
type Server struct {
	Name    string
	Connect func(ctx context.Context) (*pgx.Conn, error)
}

// Watch asks the servers how they fare until ctx ends, and sets the pace by
// it. slot is the move's own, application the name of its sessions. A server
// that can't be asked slows nothing down.
func (p *Pace) Watch(ctx context.Context, servers []Server, slot, application string, bounds Bounds) {
	var watched []*watch
	for _, s := range servers {
		w := &watch{Server: s}
		defer w.close()
		watched = append(watched, w)
	}
	last := time.Now()
	for first := true; ; first = false {
		reason, beside, atOnce := "", "", 0
		for _, w := range watched {
			l, ok := w.look(ctx, slot, application)
			if !ok {
				continue
			}
			if reason == "" {
				reason = bounds.Strain(w.Name, l)
			}
			if n := width(w.processors); l.Others > 0 && (beside == "" || n < atOnce) {
				beside, atOnce = w.Name, n
			}
		}
		p.see(beside, atOnce)
		if !first { // or next to no time went by, in which to have taken anything
			p.adapt(time.Since(last), reason)
		}
		last = time.Now()
		if sleep.For(ctx, lookEvery+rand.N(lookEvery/5)) != nil { //nolint:gosec // jitter
			return
		}
	}
}

// TellEvery is how often a copy says how far it is: one that waits has nothing else to say.
const TellEvery = time.Second / 2

// Watching does [Pace.Watch] while something else goes on. stop ends it, and waits until it has ended.
func (p *Pace) Watching(ctx context.Context, servers []Server, slot, application string, bounds Bounds) (stop func()) {
	return aside(ctx, func(ctx context.Context) { p.Watch(ctx, servers, slot, application, bounds) })
}

// Telling calls tell every so often with what is waited for, while something
// else goes on. stop ends it, and waits until it has ended.
func (p *Pace) Telling(ctx context.Context, every time.Duration, tell func(ctx context.Context, waiting string)) (stop func()) {
	return aside(ctx, func(ctx context.Context) {
		for sleep.For(ctx, every) == nil {
			tell(ctx, p.Waiting())
		}
	})
}

func aside(ctx context.Context, do func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var one sync.WaitGroup
	one.Go(func() { do(ctx) })
	return func() { cancel(); one.Wait() }
}

// watch is the connection to a watched server.
type watch struct {
	Server
	conn       *pgx.Conn
	processors int
	notBefore  time.Time
}

func (w *watch) look(ctx context.Context, slot, application string) (l Load, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	var err error
	if w.conn == nil {
		if time.Now().Before(w.notBefore) {
			return l, false
		}
		if w.conn, err = w.Connect(ctx); err == nil {
			w.processors = Processors(ctx, w.conn)
		}
	}
	if err == nil {
		l, err = Read(ctx, w.conn, slot, application, w.processors)
	}
	if err != nil {
		w.close()
		w.notBefore = time.Now().Add(lookAgain)
	}
	return l, err == nil
}

func (w *watch) close() {
	if w.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = w.conn.Close(ctx) // the server notices either way
	w.conn = nil
}
