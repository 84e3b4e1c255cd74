package access

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/shardmap"
)

// AuditStream is the JetStream stream by which nodes tell the control plane
// what belongs in the audit log: JSON [Event], with its ID as Nats-Msg-Id, each
// on its own subject, AuditSubject and its [shardmap.NodeToken]. A message may
// come twice; the ID tells.
const (
	AuditStream  = "FREEHOLD_AUDIT"
	AuditSubject = "freehold.audit.node."
	// AuditSubjectOfAll is where nodes of before that put theirs, whichever they
	// were; no key of a node may publish there.
	AuditSubjectOfAll = "freehold.audit.node"
)

// AuditStreamConfig is the stream as the control plane makes it: bounded, the
// oldest goes first, so that nobody can fill the store by being refused.
func AuditStreamConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: AuditStream, Description: "what data-plane nodes refused, on its way to the audit log",
		Subjects: []string{AuditSubjectOfAll, AuditSubject + "*"}, Replicas: max(replicas, 1), Storage: jetstream.FileStorage,
		MaxAge: 7 * 24 * time.Hour, MaxBytes: 256 << 20, MaxMsgSize: maxEvent, Discard: jetstream.DiscardOld,
		Duplicates: 10 * time.Minute,
	}
}

// maxEvent is more than any [Event] has bytes as JSON.
const maxEvent = 16 << 10

// What an [Event] says was refused: the audit record's action.
const (
	// ActionCrossTenant: a credential of one tenant came with the name of another.
	ActionCrossTenant = "gateway.cross_tenant"
	// ActionRevoked: a revoked token was shown.
	ActionRevoked = "gateway.token_revoked"
	// ActionKeyRefused: an API key that is unknown, revoked or expired was shown.
	ActionKeyRefused = "gateway.key_refused"
	// ActionPolicyDenied: a policy refused a request that the role allows.
	ActionPolicyDenied = "gateway.policy_denied"
)

// Event is something that a node refused and the audit log should know. It holds no secret.
type Event struct {
	ID     string    `json:"id"` // a UUID, the same for every copy of the message
	Time   time.Time `json:"time"`
	Node   string    `json:"node"`
	Action string    `json:"action"` // one of the Action constants
	// Tenant is the one that the credential is of, as far as it was verified.
	Tenant shardmap.TenantID `json:"tenant"`
	// Claimed is the other tenant that the request named, as it was sent.
	Claimed string `json:"claimed,omitempty"`
	// Subject is the token's sub, or `key/<id>`; Issuer the token's iss.
	Subject string `json:"subject,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	// Remote is the client's address, RequestID what its answer had as X-Request-Id.
	Remote    string `json:"remote,omitempty"`
	RequestID string `json:"request_id,omitempty"`
	// Reason is a sentence for the one who reads the log.
	Reason string `json:"reason,omitempty"`
	// More counts events of the tenant that were left out since the one before, because there were too many.
	More int `json:"more,omitempty"`
}

// NewEvent makes an event of now, with an ID.
func NewEvent(node, action string, tenant shardmap.TenantID) Event {
	return Event{ID: uuid.Must(uuid.NewV7()).String(), Time: time.Now().UTC(), Node: node, Action: action, Tenant: tenant}
}

const maxWord = 512 // bytes of one text of an event

// Clip shortens what came from outside, so that an event stays small.
func (e Event) Clip() Event {
	for _, s := range []*string{&e.Node, &e.Action, &e.Claimed, &e.Subject, &e.Issuer, &e.Remote, &e.RequestID, &e.Reason} {
		if len(*s) > maxWord {
			*s = (*s)[:maxWord]
			for !utf8.ValidString(*s) && len(*s) > maxWord-utf8.UTFMax {
				*s = (*s)[:len(*s)-1]
			}
		}
	}
	return e
}

// Validate refuses what no node could have sent.
func (e Event) Validate() error {
	if _, err := uuid.Parse(e.ID); err != nil {
		return fmt.Errorf("audit event: %w", err)
	}
	if _, err := shardmap.ParseTenantID(string(e.Tenant)); err != nil {
		return fmt.Errorf("audit event %s: %w", e.ID, err)
	}
	switch e.Action {
	case ActionCrossTenant, ActionRevoked, ActionKeyRefused, ActionPolicyDenied:
	default:
		return fmt.Errorf("audit event %s: unknown action %.40q", e.ID, e.Action)
	}
	if e.Node == "" || e.Time.IsZero() || e.More < 0 {
		return fmt.Errorf("audit event %s: %w", e.ID, errors.New("node, time or count is missing"))
	}
	return nil
}
