package feed_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/shardmap"
	"github.com/freehold-db/freehold/shardmap/feed"
)

// A node that starts without NATS and is asked for many tenants at once asks the
// control plane for each of them once, and for few at a time.
func TestManyMissesAtOnceDoNotFloodTheControlPlane(t *testing.T) {
	const tenants, asking = 300, 3
	var underWay, most, asked atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		now := underWay.Add(1)
		defer underWay.Add(-1)
		for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
		}
		time.Sleep(time.Millisecond) // so that others would come meanwhile
		_ = json.NewEncoder(rw).Encode(at(shardmap.TenantID(path.Base(r.URL.Path)), "s1", 1))
	}))
	defer api.Close()
	f, err := feed.New(feed.Config{Node: "n1", NATS: natslink.Config{URL: "nats://127.0.0.1:1"}, Control: []string{api.URL}, Log: silent})
	require.NoError(t, err)
	defer f.Close()
	m := shardmap.NewMap(shardmap.MapConfig{LoadTimeout: time.Minute}, f)

	again := time.Now().Add(time.Minute)
	failed := atomic.Int64{}
	var all sync.WaitGroup
	for i := range tenants * asking {
		all.Go(func() {
			id := shardmap.TenantID(fmt.Sprintf("tenant-%d", i%tenants))
			for {
				p, err := m.Get(t.Context(), id)
				if err == nil && p == at(id, "s1", 1) {
					return
				}
				failed.Add(1)
				if time.Now().After(again) {
					t.Errorf("%s: %+v, %v", id, p, err)
					return
				}
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, most.Load(), int64(32))
	require.LessOrEqual(t, asked.Load(), tenants+failed.Load())
}
