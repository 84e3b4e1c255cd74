package policy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/gateway/bearer"
	guard "github.com/freehold-db/freehold/dataplane/gateway/policy"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/policy"
	"github.com/freehold-db/freehold/shardmap"
)

func setUp(t testing.TB, fleet access.Fleet) (*access.Directory, *guard.Guard) {
	t.Helper()
	d := access.NewDirectory(func(context.Context, string) ([]byte, error) { return nil, nil })
	b, err := json.Marshal(fleet)
	require.NoError(t, err)
	d.Begin()
	require.True(t, d.Take(access.FleetKey, b))
	d.Whole()
	return d, guard.New(d, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

var (
	read = policy.What{Method: "GET", Kind: policy.Table, Schema: "public", Name: "projects"}
	now  = policy.Context{IP: netip.MustParseAddr("10.1.2.3"), Time: time.Now()}
)

// A guard judges by the document that the identity came with, and by no older one.
func TestFollowsDocuments(t *testing.T) {
	t.Parallel()
	_, g := setUp(t, access.Fleet{Version: 1})
	who := func(doc *access.Tenant) *bearer.Identity {
		return &bearer.Identity{Tenant: "acme", Role: "editor", Subject: "alice", Document: doc}
	}
	none := who(nil)
	require.True(t, g.Idle(none))
	require.NoError(t, g.Check(none, read, now))
	forbids := &access.Tenant{Tenant: "acme", Policies: []access.Policy{{Name: "p", Text: `forbid (principal, action, resource);`}}}
	var denied *guard.DeniedError
	for range 2 {
		require.ErrorAs(t, g.Check(who(forbids), read, now), &denied)
		require.Equal(t, "forbidden by policy p", denied.Error())
		require.NoError(t, g.Check(none, read, now))
	}
	broken := &access.Tenant{Tenant: "acme", Policies: []access.Policy{{Name: "p", Text: `forbid`}}}
	require.ErrorIs(t, g.Check(who(broken), read, now), guard.ErrBroken)
	require.ErrorAs(t, g.Check(who(forbids), read, now), &denied)

	key := &bearer.Identity{Tenant: "acme", Role: "viewer", Subject: "key/0123456789ab", KeyID: "0123456789ab", Document: &access.Tenant{Tenant: "acme",
		Policies: []access.Policy{{Name: "p", Text: `forbid (principal == Key::"0123456789ab", action, resource);`}}}}
	require.ErrorAs(t, g.Check(key, read, now), &denied)
}

func TestNoPoliciesCostNothing(t *testing.T) {
	_, g := setUp(t, access.Fleet{Version: 1})
	id := &bearer.Identity{Tenant: "acme", Role: "editor"}
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = g.Check(id, read, now) }))
}

func BenchmarkCheck(b *testing.B) {
	_, g := setUp(b, access.Fleet{Version: 1, Policies: []access.Policy{{Name: "office",
		Text: `forbid (principal, action in Action::"write", resource) unless { context.ip.isInRange(ip("10.0.0.0/8")) };`}}})
	ids := make([]*bearer.Identity, 100)
	for i := range ids {
		ids[i] = &bearer.Identity{Tenant: shardmap.TenantID(fmt.Sprintf("t-%d", i)), Role: "editor", Subject: "alice", Claims: `{"sub":"alice","role":"editor","email":"alice@example.com"}`}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := g.Check(ids[i%100], read, now); err != nil {
			b.Fatal(err)
		}
	}
}
