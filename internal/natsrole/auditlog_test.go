package natsrole_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/audit/anchor"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/natsrole"
)

// The copy of the audit log is made, added to and read by the control plane;
// neither it nor a node can shorten, purge or remove it.
func TestTheAuditLogsCopyStays(t *testing.T) {
	t.Parallel()
	w := start(t, natsrole.ControlPlane(), natsrole.Node("n1"))
	cp, node := w.as(natsrole.ControlPlane()), w.as(natsrole.Node("n1"))
	stream, err := anchor.NewStream(cp.Conn, 1, quiet)
	require.NoError(t, err)
	ctx := t.Context()
	require.Empty(t, cp.refused(t, func() {
		require.NoError(t, stream.Keep(ctx, 1, "a checkpoint"))
		require.NoError(t, stream.Keep(ctx, 1, "a checkpoint"))
		_, err := cp.js.Publish(ctx, access.AuditLogRecords, []byte("a record"), jetstream.WithExpectLastSequencePerSubject(0))
		require.NoError(t, err)
		var held []proof.Anchor
		for a, err := range stream.Held(ctx) {
			require.NoError(t, err)
			held = append(held, a)
		}
		require.Len(t, held, 2)
		require.Equal(t, "a checkpoint", held[0].Checkpoint)
		require.EqualValues(t, 1, held[1].Records)
	}))
	for _, c := range []who{cp, node} {
		for _, verb := range []string{"UPDATE", "DELETE", "PURGE", "MSG.DELETE"} {
			subject := "$JS.API.STREAM." + verb + "." + access.AuditLogStream
			require.Len(t, c.refused(t, func() { require.NoError(t, c.Publish(subject, nil)) }), 1, subject)
		}
	}
	for _, subject := range []string{access.AuditLogRecords, access.AuditLogCheckpoints, "$JS.API.CONSUMER.CREATE." + access.AuditLogStream + ".c"} {
		require.Len(t, node.refused(t, func() { require.NoError(t, node.Publish(subject, nil)) }), 1, subject)
	}
}
