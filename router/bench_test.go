package router_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/router"
)

// tcp has f serve over real sockets, so that what the kernel is asked counts.
func (f *fake) tcp(b *testing.B) router.DialFunc {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { _ = l.Close() })
	f.started.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.started.Go(func() { f.serve(c) })
		}
	})
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}
}

// BenchmarkDo is what the router adds to a request on a warm pool.
func BenchmarkDo(b *testing.B) {
	w, f := newWorld(), newFake()
	p := w.settle(1, "s1", 1)
	r := newRouter(b, w, router.Config{}, f.tcp(b))
	ctx := b.Context()
	nothing := func(context.Context, *router.Conn) error { return nil }
	require.NoError(b, r.Do(ctx, p.Tenant, router.ReadOnly, nothing))
	b.ReportAllocs()
	b.Run("serial", func(b *testing.B) {
		for b.Loop() {
			if err := r.Do(ctx, p.Tenant, router.ReadOnly, nothing); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := r.Do(ctx, p.Tenant, router.ReadOnly, nothing); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
