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
	for last := time.Now(); ; {
		if sleep.For(ctx, lookEvery+rand.N(lookEvery/5)) != nil { //nolint:gosec // jitter
			return
		}
		reason := ""
		for _, w := range watched {
			if l, ok := w.look(ctx, slot, application); ok && reason == "" {
				reason = bounds.Strain(w.Name, l)
			}
		}
		p.adapt(time.Since(last), reason)
		last = time.Now()
	}
}

// tellEvery is how often a copy says how far it is: one that waits has nothing else to say.
const tellEvery = time.Second / 2

// Beside does [Pace.Watch] while something else goes on, and calls tell now and
// then with what is waited for. stop ends both, and waits until they have ended.
func (p *Pace) Beside(ctx context.Context, servers []Server, slot, application string, bounds Bounds, tell func(waiting string)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var both sync.WaitGroup
	both.Go(func() { p.Watch(ctx, servers, slot, application, bounds) })
	both.Go(func() {
		for sleep.For(ctx, tellEvery) == nil {
			tell(p.Waiting())
		}
	})
	return func() { cancel(); both.Wait() }
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
