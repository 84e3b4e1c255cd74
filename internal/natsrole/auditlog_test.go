package natsrole_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/shardmap"
)

// The copy of the audit log is made, added to and read by one role; neither it
// nor another can shorten, purge or remove it, and no other can put anything in.
func TestTheAuditLogsCopyStays(t *testing.T) {
	t.Parallel()
	w := start(t, natsrole.ControlPlane(), natsrole.Auditor(), natsrole.Node("n1"))
	cp, auditor, node := w.as(natsrole.ControlPlane()), w.as(natsrole.Auditor()), w.as(natsrole.Node("n1"))
	buckets(t, cp)
	ctx := t.Context()
	require.Empty(t, auditor.refused(t, func() { // what package anchor does
		_, err := auditor.js.CreateStream(ctx, access.AuditLogStreamConfig(1, access.AuditLogBounds{}))
		require.NoError(t, err)
		_, err = auditor.js.Publish(ctx, access.AuditLogCheckpoints, []byte("a checkpoint"))
		require.NoError(t, err)
		_, err = auditor.js.Publish(ctx, access.AuditLogRecords, []byte("a record"), jetstream.WithExpectLastSequencePerSubject(0))
		require.NoError(t, err)
		stream, err := auditor.js.Stream(ctx, access.AuditLogStream)
		require.NoError(t, err)
		last, err := stream.GetLastMsgForSubject(ctx, access.AuditLogRecords)
		require.NoError(t, err)
		require.Equal(t, "a record", string(last.Data))
		consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
		require.NoError(t, err)
		messages, err := consumer.Messages()
		require.NoError(t, err)
		defer messages.Stop()
		for _, want := range []string{"a checkpoint", "a record"} {
			m, err := messages.Next(jetstream.NextContext(ctx))
			require.NoError(t, err)
			require.Equal(t, want, string(m.Data()))
		}
	}))
	for _, c := range []who{cp, auditor, node} {
		for _, verb := range []string{"UPDATE", "DELETE", "PURGE", "MSG.DELETE"} {
			subject := "$JS.API.STREAM." + verb + "." + access.AuditLogStream
			require.Len(t, c.refused(t, func() { require.NoError(t, c.Publish(subject, nil)) }), 1, subject)
		}
	}
	for _, c := range []who{cp, node} {
		for _, subject := range []string{access.AuditLogRecords, access.AuditLogCheckpoints, "$JS.API.CONSUMER.CREATE." + access.AuditLogStream + ".c"} {
			require.Len(t, c.refused(t, func() { require.NoError(t, c.Publish(subject, nil)) }), 1, subject)
		}
	}

	// Nor by having NATS answer there instead.
	heard, err := cp.SubscribeSync(shardmap.SubjectAnswers + "q.n1")
	require.NoError(t, err)
	require.NoError(t, cp.Flush())
	const question = "$JS.API.STREAM.INFO.KV_nodes"
	require.NoError(t, node.PublishRequest(question, access.AuditLogRecords, nil))
	require.NoError(t, node.PublishRequest(question, shardmap.SubjectAnswers+"q.n1", nil)) // the control: answers go anywhere in one's own account
	_, err = heard.NextMsg(30 * time.Second)
	require.NoError(t, err)
	info, err := auditor.js.Stream(ctx, access.AuditLogStream)
	require.NoError(t, err)
	require.EqualValues(t, uint64(2), info.CachedInfo().State.Msgs)
}
