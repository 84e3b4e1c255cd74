package dataplane_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/traffic"
)

// Who listens on NATS hears how many requests a node served of each tenant; a
// node that nobody hears serves all the same.
func TestNodesTellOfTheirTraffic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 3)
	n := w.node()
	nc, err := nats.Connect(w.nats.URL(), nats.Timeout(20*time.Second))
	require.NoError(t, err)
	defer nc.Close()
	heard, err := nc.SubscribeSync(traffic.Subject + "*")
	require.NoError(t, err)
	require.NoError(t, nc.Flush()) // from here on nothing is missed
	const requests = 7
	for range requests {
		require.Equal(t, 200, do(t, http.MethodGet, n.URL()+"/rest/v1/notes?select=id", w.token("acme", "viewer"), "").status)
	}
	var sum traffic.Sum
	for sum.Requests < requests {
		msg, err := heard.NextMsg(time.Minute)
		require.NoError(t, err)
		r, err := traffic.Decode(msg.Data)
		require.NoError(t, err)
		require.NotEmpty(t, r.Node)
		if told := r.Tenants["acme"]; told != nil {
			sum.Add(told)
		}
	}
	require.EqualValues(t, requests, sum.Requests)
	require.Zero(t, sum.Failed)
	require.Positive(t, sum.Seconds)
}
