package natsserver_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/process"
)

func bucket(t *testing.T, ctx context.Context, url string) jetstream.KeyValue {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(20*time.Second))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(t, err)
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "b"})
	require.NoError(t, err)
	return kv
}

func TestRestartResumesStateOnSamePort(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	port, err := process.FreePort() // not one that the system gives to the next who asks for any
	require.NoError(t, err)

	s, err := natsserver.Start(ctx, natsserver.Config{Dir: dir, Port: port})
	require.NoError(t, err)
	_, err = bucket(t, ctx, s.URL()).PutString(ctx, "k", "v")
	require.NoError(t, err)
	require.NoError(t, s.Stop(ctx))
	require.NoError(t, s.Stop(ctx), "stopping twice does nothing")

	again, err := natsserver.Start(ctx, natsserver.Config{Dir: dir, Port: s.Port()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = again.Stop(context.Background()) })
	require.Equal(t, s.URL(), again.URL())
	e, err := bucket(t, ctx, again.URL()).Get(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, "v", string(e.Value()))
}

func TestTakenPortIsAnError(t *testing.T) {
	t.Parallel()
	s, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	_, err = natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir(), Port: s.Port()})
	require.ErrorContains(t, err, "address already in use")
}

func TestTokenKeepsStrangersOut(t *testing.T) {
	t.Parallel()
	s, err := natsserver.Start(t.Context(), natsserver.Config{Dir: t.TempDir(), Token: "s3cret"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop(context.Background()) })
	nc, err := nats.Connect(s.URL(), nats.Timeout(20*time.Second))
	require.NoError(t, err)
	nc.Close()
	_, err = nats.Connect(s.URL()[:len("nats://")] + s.URL()[len("nats://s3cret@"):])
	require.ErrorIs(t, err, nats.ErrAuthorization)
}
