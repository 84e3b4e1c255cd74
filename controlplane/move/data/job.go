package data

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// job is one piece of work for a worker. Jobs may add further ones.
type job func(ctx context.Context, w *worker) error

// The order in which waiting jobs are taken: what others wait for goes first.
const (
	first = iota // builds of indexes
	second
	third // comparing
	priorities
)

// queue hands jobs to workers until none is left and none is running.
type queue struct {
	mu      sync.Mutex
	wake    *sync.Cond
	waiting [priorities][]job
	open    int // waiting or running
	stopped bool
}

func newQueue() *queue {
	q := &queue{}
	q.wake = sync.NewCond(&q.mu)
	return q
}

func (q *queue) add(priority int, j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting[priority] = append(q.waiting[priority], j)
	q.open++
	q.wake.Signal()
}

// take waits for a job; nil when there will be none any more.
func (q *queue) take() job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.stopped || q.open == 0 {
			return nil
		}
		for p := range q.waiting {
			if len(q.waiting[p]) > 0 {
				j := q.waiting[p][0]
				q.waiting[p] = q.waiting[p][1:]
				return j
			}
		}
		q.wake.Wait()
	}
}

func (q *queue) done() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open--
	if q.open == 0 {
		q.wake.Broadcast()
	}
}

func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	q.wake.Broadcast()
}

// run works the queue empty with n workers, each job in a turn. The first error ends it.
func (q *queue) run(ctx context.Context, n int, turn func(context.Context) (end func(), err error), open func(ctx context.Context) (*worker, error)) error {
	g, ctx := errgroup.WithContext(ctx)
	for range n {
		g.Go(func() (err error) {
			defer func() {
				if err != nil {
					q.stop()
				}
			}()
			w, err := open(ctx)
			if err != nil {
				return err
			}
			defer w.close()
			for more := true; more && err == nil; {
				more, err = q.one(ctx, w, turn)
			}
			return err
		})
	}
	return g.Wait()
}

// one does the next job when it is its turn. The turn comes first: who has one
// takes what is most urgent then.
func (q *queue) one(ctx context.Context, w *worker, turn func(context.Context) (end func(), err error)) (more bool, err error) {
	end, err := turn(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	j := q.take()
	if j == nil {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := j(ctx, w); err != nil {
		return false, err
	}
	q.done()
	return true, nil
}
