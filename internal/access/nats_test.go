package access_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/process"
	"github.com/freehold-db/freehold/shardmap"
	"github.com/freehold-db/freehold/shardmap/feed"
)

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// bus is NATS, with the bucket as the control plane makes it.
type bus struct {
	t   *testing.T
	dir string
	srv *natsserver.Server
	nc  *nats.Conn
	kv  jetstream.KeyValue
	js  jetstream.JetStream
}

func (b *bus) start(port int) {
	b.t.Helper()
	var err error
	b.srv, err = natsserver.Start(b.t.Context(), natsserver.Config{Dir: b.dir, Port: port, Log: silent})
	require.NoError(b.t, err)
	b.nc, err = nats.Connect(b.srv.URL(), nats.Timeout(20*time.Second))
	require.NoError(b.t, err)
	b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(time.Minute))
	require.NoError(b.t, err)
	b.kv, err = b.js.CreateOrUpdateKeyValue(b.t.Context(), jetstream.KeyValueConfig{Bucket: access.Bucket})
	require.NoError(b.t, err)
}

func (b *bus) stop() {
	b.nc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	require.NoError(b.t, b.srv.Stop(ctx))
}

func (b *bus) put(key string, doc any) {
	b.t.Helper()
	_, err := b.kv.Put(b.t.Context(), key, encode(b.t, doc))
	require.NoError(b.t, err)
}

func TestDirectoryOverNATS(t *testing.T) {
	t.Parallel()
	b := &bus{t: t, dir: t.TempDir()}
	at, err := process.FreePort() // not one that the system gives to the next who asks for any
	require.NoError(t, err)
	b.start(at)
	f, err := feed.New(feed.Config{Node: "n1", NATS: natslink.Config{URL: b.srv.URL()}, Log: silent})
	require.NoError(t, err)
	defer f.Close()
	d := access.NewDirectory(f.LoadAccess)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		f.FollowAccess(ctx, feed.Sink{Begin: d.Begin, Take: d.Take, Drop: d.Drop, Whole: d.Whole})
		close(done)
	}()
	defer func() { cancel(); <-done }()
	planOf := func(id shardmap.TenantID) string {
		doc, err := d.Tenant(t.Context(), id)
		switch {
		case err != nil:
			return "unknown"
		case doc == nil:
			return ""
		}
		return doc.Plan
	}
	becomes := func(id shardmap.TenantID, want string) {
		t.Helper()
		require.Eventually(t, func() bool { return planOf(id) == want }, 30*time.Second, 10*time.Millisecond, "%s: %s", id, want)
	}

	b.put("acme", plan("acme", 1, "gold"))
	b.put("rival", plan("rival", 1, "free"))
	becomes("acme", "unknown") // the fleet's document is not there, and nobody can be asked
	b.put(access.FleetKey, access.Fleet{Version: 1})
	becomes("acme", "gold")
	becomes("nobody", "")
	b.put("acme", plan("acme", 3, "silver"))
	becomes("acme", "silver")
	b.put("acme", plan("acme", 2, "gold")) // late
	b.put("rival", plan("rival", 2, "paid"))
	becomes("rival", "paid") // so the late one has been seen
	require.Equal(t, "silver", planOf("acme"))
	require.NoError(t, b.kv.Delete(t.Context(), "rival"))
	becomes("rival", "")

	// Lost: what is known stays. Back with other content: that is what holds.
	b.stop()
	require.Equal(t, "silver", planOf("acme"))
	require.Equal(t, "", planOf("nobody"))
	b.start(at)
	b.put("rival", plan("rival", 3, "free"))
	require.NoError(t, b.kv.Purge(t.Context(), "acme"))
	becomes("rival", "free")
	becomes("acme", "")
	b.put("acme", plan("acme", 4, "gold"))
	becomes("acme", "gold")

	// Emptied: nothing is forgotten before the bucket is whole again.
	b.stop()
	require.NoError(t, os.RemoveAll(filepath.Join(b.dir, "jetstream")))
	b.start(at)
	b.put("third", plan("third", 1, "free"))
	becomes("third", "free")
	require.Equal(t, "gold", planOf("acme"))
	b.put("acme", plan("acme", 4, "gold"))
	b.put(access.FleetKey, access.Fleet{Version: 2})
	becomes("rival", "")
	require.Equal(t, "gold", planOf("acme"))

	// The bucket made anew under a connection that stays: found within seconds.
	require.NoError(t, b.js.DeleteKeyValue(t.Context(), access.Bucket))
	b.kv, err = b.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: access.Bucket})
	require.NoError(t, err)
	b.put("acme", plan("acme", 5, "silver"))
	becomes("acme", "silver")
	require.Equal(t, "free", planOf("third"))
}

// Before the watch has taken in everything, the bucket and then the control plane are asked.
func TestDirectoryAsksTheControlPlane(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer node-token" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/v1/access/_fleet":
			_, _ = w.Write(encode(t, access.Fleet{Version: 1, DefaultPlan: "free"}))
		case "/v1/access/acme":
			_, _ = w.Write(encode(t, plan("acme", 1, "gold")))
		case "/v1/access/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer api.Close()
	f, err := feed.New(feed.Config{Node: "n1", NATS: natslink.Config{URL: "nats://127.0.0.1:1"}, Control: []string{"http://127.0.0.1:1", api.URL}, ControlToken: "node-token", Log: silent})
	require.NoError(t, err)
	defer f.Close()
	d := access.NewDirectory(f.LoadAccess)
	doc, err := d.Tenant(t.Context(), "acme")
	require.NoError(t, err)
	require.Equal(t, "gold", doc.Plan)
	require.Equal(t, "free", d.Fleet().DefaultPlan)
	doc, err = d.Tenant(t.Context(), "nobody")
	require.NoError(t, err)
	require.Nil(t, doc)
	_, err = d.Tenant(t.Context(), "down")
	require.ErrorIs(t, err, access.ErrUnknown)
}

func TestEventsGetIntoTheStream(t *testing.T) {
	t.Parallel()
	b := &bus{t: t, dir: t.TempDir()}
	b.start(0)
	defer b.stop()
	f, err := feed.New(feed.Config{Node: "n1", NATS: natslink.Config{URL: b.srv.URL()}, Log: silent})
	require.NoError(t, err)
	defer f.Close()
	e := access.NewEvent("n1", access.ActionCrossTenant, "acme")
	require.Eventually(t, f.Connected, 20*time.Second, 10*time.Millisecond)
	require.Error(t, f.Publish(t.Context(), access.AuditSubject+"n1", e.ID, encode(t, e)), "there is no stream")
	stream, err := b.js.CreateStream(t.Context(), access.AuditStreamConfig(1))
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, f.Publish(t.Context(), access.AuditSubject+"n1", e.ID, encode(t, e)))
	}
	info, err := stream.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, info.State.Msgs)
	msg, err := stream.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	var got access.Event
	require.NoError(t, json.Unmarshal(msg.Data, &got))
	require.Equal(t, e.ID, got.ID)
	require.NoError(t, got.Validate())
}
