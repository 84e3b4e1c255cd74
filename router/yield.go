package router

import "context"

// YieldKey is the key under which a request's context may hold a [Yielder].
type YieldKey struct{}

// Yielder is told when its request begins to wait for its tenant's place, held
// by a cutover or turned away there: that has nothing to do with how busy this
// node is. It may be told more than once.
type Yielder interface{ Yield() }

func yield(ctx context.Context) {
	if y, ok := ctx.Value(YieldKey{}).(Yielder); ok {
		y.Yield()
	}
}
