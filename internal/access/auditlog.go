package access

import (
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

// AuditLogStreamConfig is the stream as the control plane makes it. It refuses
// to delete and to purge, and is bounded by nothing; that it can't be updated
// or removed is up to the permissions of whoever connects.
func AuditLogStreamConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: AuditLogStream, Description: "a copy of the audit log that nothing is taken out of",
		Subjects: []string{AuditLogRecords, AuditLogCheckpoints}, Replicas: max(replicas, 1), Storage: jetstream.FileStorage,
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew, MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1,
		MaxMsgsPerSubject: -1, DenyDelete: true, DenyPurge: true, AllowDirect: true,
	}
}
