package access

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// AuditLogStream is the JetStream stream that holds a copy of every record of
// the audit log, and of the checkpoints it was signed with: a witness beside
// the audit database. Records are on AuditLogRecords, in order, with their
// position as header [AuditLogPosition].
const (
	AuditLogStream      = "FREEHOLD_AUDIT_LOG"
	AuditLogRecords     = "freehold.audit.log.record"
	AuditLogCheckpoints = "freehold.audit.log.checkpoint"
	AuditLogPosition    = "Freehold-Position"
)

// AuditLogBounds are how much of the audit log the stream's copy holds. Zero
// values mean the default in brackets.
type AuditLogBounds struct {
	// Keep is how long a record or checkpoint stays there [90 days].
	Keep time.Duration
	// MaxBytes is how large the copy gets [1 GiB]. One that is full takes nothing
	// more until something is old enough to go: nothing is pushed out.
	MaxBytes int64
}

// Defaults fills what is zero.
func (b *AuditLogBounds) Defaults() {
	if b.Keep <= 0 {
		b.Keep = 90 * 24 * time.Hour
	}
	if b.MaxBytes <= 0 {
		b.MaxBytes = 1 << 30
	}
}

// AuditLogStreamConfig is the stream as the control plane makes it. It refuses
// to delete and to purge, lets go of what is older than its bounds say and of
// nothing else; that it can't be updated or removed is up to the permissions of
// whoever connects. NATS sets its size aside for it, so that it takes no room
// from placements.
func AuditLogStreamConfig(replicas int, b AuditLogBounds) jetstream.StreamConfig {
	b.Defaults()
	return jetstream.StreamConfig{
		Name: AuditLogStream, Description: "a copy of the audit log that nothing is taken out of before its time",
		Subjects: []string{AuditLogRecords, AuditLogCheckpoints}, Replicas: max(replicas, 1), Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxMsgs: -1, MaxBytes: b.MaxBytes, MaxAge: b.Keep, MaxMsgSize: -1,
		MaxMsgsPerSubject: -1, DenyDelete: true, DenyPurge: true, AllowDirect: true,
	}
}
