package dataplane_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/process"
)

// A node comes up with everything around it away, says so, and becomes ready
// by itself; once it knows a tenant, it serves it whatever goes away.
func TestNodeOutlivesWhatIsAroundIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 2)
	tok := w.token("acme", "viewer")
	natsDir, natsPort := t.TempDir(), freePort(t)
	issuerDir, issuerAddr := t.TempDir(), strings.TrimPrefix(w.issuer.URL(), "http://")

	s, err := dataplane.Start(t.Context(), func() dataplane.Config {
		c := w.config()
		c.NATSURL = "nats://127.0.0.1:" + natsPort
		c.ControlURL = "http://127.0.0.1:" + freePort(t)
		c.Issuer, c.JWKSURL = "http://127.0.0.1:"+freePort(t), "" // discovered
		issuerAddr = strings.TrimPrefix(c.Issuer, "http://")
		return c
	}())
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, s) })
	require.Equal(t, 200, do(t, http.MethodGet, s.URL()+"/healthz", "", "").status)
	require.Equal(t, 503, do(t, http.MethodGet, s.URL()+"/readyz", "", "").status)
	a := do(t, http.MethodGet, s.URL()+"/rest/v1/notes", tok, "")
	require.Equal(t, 503, a.status)
	require.Contains(t, a.body, "access_unknown", "the token's issuer may be a tenant's own")

	iss, err := issuer.Start(t.Context(), issuerDir, issuerAddr)
	require.NoError(t, err)
	tok, err = iss.Mint(issuer.Claims{Tenant: "acme", Role: issuer.RoleViewer})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		a = do(t, http.MethodGet, s.URL()+"/rest/v1/notes", tok, "")
		return a.status == 503 && strings.Contains(a.body, "access_unknown")
	}, time.Minute, 50*time.Millisecond, "keys are known, whether the token was revoked is not")

	// The bus comes up with the buckets in it.
	port, err := net.LookupPort("tcp", natsPort)
	require.NoError(t, err)
	bus, err := natsserver.Start(t.Context(), natsserver.Config{Dir: natsDir, Port: port})
	require.NoError(t, err)
	w.fill(bus.URL(), "acme")
	w.eventually(s, http.StatusOK)
	require.Equal(t, 200, do(t, http.MethodGet, s.URL()+"/rest/v1/notes", tok, "").status)

	// All of it goes away again.
	stop(t, bus)
	stop(t, iss)
	for range 5 {
		require.Equal(t, 200, do(t, http.MethodGet, s.URL()+"/rest/v1/notes", tok, "").status)
		require.Equal(t, 200, do(t, http.MethodGet, s.URL()+"/readyz", "", "").status)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := process.FreePort() // not one that the system gives to the next who asks for any
	require.NoError(t, err)
	return strconv.Itoa(port)
}

// A node that is stopped under traffic fails no request: what came is answered,
// and what it takes no more never left the client.
func TestStopFailsNoRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tenant("acme", 100)
	s := w.node()
	tok := w.token("acme", "viewer")
	var good, turnedAway atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
			defer c.CloseIdleConnections()
			for ctx.Err() == nil {
				req, err := http.NewRequest(http.MethodGet, s.URL()+"/rest/v1/notes?id=lt.10", nil)
				if !assertNoError(t, err) {
					return
				}
				req.Header.Set("Authorization", "Bearer "+tok)
				resp, err := c.Do(req)
				var op *net.OpError
				if errors.As(err, &op) && op.Op == "dial" {
					turnedAway.Add(1)
					return
				}
				if !assertNoError(t, err) {
					return
				}
				body, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if !assertNoError(t, err) {
					return
				}
				if resp.StatusCode != 200 {
					t.Errorf("%d: %s", resp.StatusCode, body)
					return
				}
				good.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return good.Load() > 100 }, time.Minute, time.Millisecond)
	before := good.Load()
	stopCtx, stopped := context.WithTimeout(t.Context(), 20*time.Second)
	defer stopped()
	require.NoError(t, s.Stop(stopCtx))
	require.NoError(t, s.Stop(stopCtx), "stopping twice does nothing")
	clients.Wait()
	require.Greater(t, good.Load(), before, "still served while draining")
	require.EqualValues(t, 8, turnedAway.Load())
	_, open := <-s.Done()
	require.False(t, open)
}

func assertNoError(t *testing.T, err error) bool {
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

func TestStopLeavesNothingRunning(t *testing.T) {
	w := newWorld(t)
	w.tenant("acme", 1)
	s := w.node()
	require.Equal(t, 200, do(t, http.MethodGet, s.URL()+"/rest/v1/notes", w.token("acme", "viewer"), "").status)
	require.NotEmpty(t, ours())
	stop(t, s)
	require.Eventually(t, func() bool { return len(ours()) == 0 }, 30*time.Second, 10*time.Millisecond, "%s", ours())
}

// ours lists the goroutines of the data plane. The NATS server and the issuer of the test have
// their own, and tests of the package from inside may wait for their turn meanwhile.
func ours() (stacks []string) {
	all := make([]byte, 4<<20)
	all = all[:runtime.Stack(all, true)]
	for _, stack := range strings.Split(string(all), "\n\n") {
		for _, of := range []string{"freehold/dataplane.", "freehold/dataplane/", "freehold/router.", "freehold/shardmap", "pgx/v5"} {
			if strings.Contains(stack, of) && !strings.Contains(stack, "dataplane_test.") && !strings.Contains(stack, "testing.tRunner(") {
				stacks = append(stacks, stack)
				break
			}
		}
	}
	return stacks
}

func TestStartFailsClearly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.node()
	for name, c := range map[string]struct {
		adjust func(*dataplane.Config)
		want   string
	}{
		"port taken": {func(c *dataplane.Config) { c.Listen = strings.TrimPrefix(s.URL(), "http://") }, "address already in use"},
		"no issuer":  {func(c *dataplane.Config) { c.Issuer = "" }, "issuer"},
		"token file": {func(c *dataplane.Config) { c.ControlTokenFile = "/nonexistent" }, "control_token_file"},
		"node name":  {func(c *dataplane.Config) { c.Name = "a b" }, "node name"},
	} {
		cfg := w.config()
		c.adjust(&cfg)
		_, err := dataplane.Start(t.Context(), cfg)
		require.ErrorContains(t, err, c.want, name)
	}
}
