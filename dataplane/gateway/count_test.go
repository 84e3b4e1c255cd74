package gateway_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/shardmap"
)

func TestRequestsAreCountedForTheirTenant(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	counted := map[shardmap.TenantID][]int{}
	d := open(t, func(c *gateway.Config) {
		c.Count = func(tenant shardmap.TenantID, took time.Duration, status int) {
			mu.Lock()
			defer mu.Unlock()
			if took > 0 {
				counted[tenant] = append(counted[tenant], status)
			}
		}
	})
	acme := with("Authorization", "Bearer "+d.token(t, "acme"))
	require.Equal(t, 401, d.get(t, "/rest/v1/t").status)
	require.Equal(t, 200, d.get(t, "/rest/v1/t", acme).status)
	require.Equal(t, 200, d.get(t, "/rest/v1/t", with("Authorization", "Bearer "+d.token(t, "rival"))).status)
	pgtest.Eventually(t, "both are counted", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(counted["acme"]) > 0 && len(counted["rival"]) > 0
	})
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[shardmap.TenantID][]int{"acme": {200}, "rival": {200}}, counted)
}
