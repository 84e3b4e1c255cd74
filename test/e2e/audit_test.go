package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
)

// The log of a running fleet is signed, witnessed by the stream and every
// shard, and checked by whoever has the keys.
func TestTheAuditLogOfAFleetIsSound(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	shared.Create(t, "audited", "s1")
	require.Eventually(t, func() bool { // the relay brings the records in
		signed, err := shared.Admin.SignAudit(ctx, client.Change{Reason: "a visit"})
		require.NoError(t, err)
		return signed.Anchored && signed.Records > 0
	}, time.Minute, 100*time.Millisecond)
	text, err := shared.Admin.AuditKeys(ctx)
	require.NoError(t, err)
	keys, err := proof.ParseKeys(string(text))
	require.NoError(t, err)
	export, err := shared.Admin.ExportAudit(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, export.Close()) }()
	r := proof.Verify(proof.Read(export), keys)
	require.Equal(t, proof.Sound, r.Verdict, "%+v", r)
	for _, name := range []string{"stream", "shard/s1", "shard/s2"} {
		require.Positive(t, r.Anchored[name], name)
	}
	found := 0
	for page, err := range shared.Admin.TenantAudit(ctx, "audited", client.AuditFilter{}) {
		require.NoError(t, err)
		for _, e := range page.Items {
			require.EqualValues(t, "audited", e.Tenant)
			found++
		}
	}
	require.Positive(t, found)
}
