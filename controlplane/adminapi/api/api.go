// Package api holds the documents of the admin API as they travel: what the
// server writes and the client reads. They are kept apart from the domain's
// types so that the catalog can change without breaking a caller.
//
// Import law: of this module, api imports shardmap only.
package api

import (
	"encoding/json"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// Page is one page of a list. NextCursor is empty on the last one.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
}

// Tenant is one customer and where it lives.
type Tenant struct {
	ID          shardmap.TenantID `json:"id"`
	DisplayName string            `json:"display_name"`
	// Labels are what operators sort tenants by, and rights over tenants go by.
	Labels map[string]string `json:"labels"`
	// State is active, suspended, deleted (restorable until PurgeAfter) or purged (gone; the ID stays taken).
	State      string           `json:"state"`
	Shard      shardmap.ShardID `json:"shard"`
	Database   string           `json:"database"`
	Epoch      shardmap.Epoch   `json:"epoch"`
	CreatedAt  time.Time        `json:"created_at"`
	DeletedAt  *time.Time       `json:"deleted_at,omitempty"`
	PurgeAfter *time.Time       `json:"purge_after,omitempty"`
	PurgedAt   *time.Time       `json:"purged_at,omitempty"`
	// ErasedAt is when it could not be taken back any more that it is erased.
	ErasedAt *time.Time `json:"erased_at,omitempty"`
}

// CreateTenant asks for a tenant. Without a shard, the best fitting one is taken.
type CreateTenant struct {
	ID          string `json:"id"`
	DisplayName string `json:"display_name,omitempty"`
	// Labels are what it is sorted by; see Tenant.
	Labels map[string]string `json:"labels,omitempty"`
	Shard  string            `json:"shard,omitempty"`
	// Region and Class are as in Needs.
	Region string `json:"region,omitempty"`
	Class  string `json:"class,omitempty"`
	// Needs are what the tenant needs of its shard, also when it is moved later.
	Needs *Needs `json:"needs,omitempty"`
}

// MoveTenant asks for an online move to another shard.
type MoveTenant struct {
	To string `json:"to"`
	// MaxPauseMS is the longest pause a client may see at the cutover, in milliseconds; 0: 500.
	MaxPauseMS int `json:"max_pause_ms,omitempty"`
	// DDL is refuse or wait: what becomes of changes to the tenant's schema meanwhile; empty: refuse.
	DDL string `json:"ddl,omitempty"`
	// SoakSeconds is how long the source is kept in step after the move, so that the tenant can be taken back; 0: not at all.
	SoakSeconds int `json:"soak_seconds,omitempty"`
	// MaxBytesPerS bounds the copy, in bytes a second over the wire; 0: as fast as the servers bear.
	MaxBytesPerS int64 `json:"max_bytes_per_s,omitempty"`
	// Pace is PaceConsiderate (also if empty) or PaceFull: whether the copy minds others who work on its servers.
	Pace string `json:"pace,omitempty"`
	// Cutover is when it may cut over: CutoverAuto (also if empty), CutoverManual, or a time (RFC 3339).
	Cutover string `json:"cutover,omitempty"`
	// DryRun walks the same steps, changes nothing, and answers with a Plan.
	DryRun bool `json:"dry_run,omitempty"`
}

// When a move cuts over: as soon as it can, or when somebody says so.
const (
	CutoverAuto   = "auto"
	CutoverManual = "manual"
)

// VerifyMove asks for a comparison of both sides of a move.
type VerifyMove struct {
	// OnlyPKs has the report tell keys and nothing else of rows.
	OnlyPKs bool `json:"only_pks,omitempty"`
	// Sample is the percentage of rows that are compared, by ranges of keys; 0: all.
	Sample float64 `json:"sample,omitempty"`
	// MaxBytesPerS bounds what is read at each side, in bytes of rows a second; 0: it rests as long as it works.
	MaxBytesPerS int64 `json:"max_bytes_per_s,omitempty"`
}

// Plan is what a dry run found: the steps that the real run would take, in order.
type Plan struct {
	Steps []PlannedStep `json:"steps"`
	// Feasible is false when a step found a reason to refuse; Refusal says which one. Nothing after it was looked at.
	Feasible bool   `json:"feasible"`
	Refusal  string `json:"refusal,omitempty"`
}

// PlannedStep is one step of a dry run.
type PlannedStep struct {
	Step string `json:"step"`
	// Title says in a person's words what the step is about.
	Title string `json:"title"`
	// NoReturn marks the step that commits the effect.
	NoReturn bool `json:"no_return"`
	// Does is what the step would do here; empty if it has nothing more to say.
	Does string `json:"does,omitempty"`
}

// GrantAccess asks for a temporary login of a person to a tenant's database.
type GrantAccess struct {
	// As is owner, rw or ro; empty: owner.
	As string `json:"as,omitempty"`
	// TTLSeconds is how long the login may be used to connect; 0: one hour.
	TTLSeconds int `json:"ttl_seconds,omitempty"`
}

// Access is a temporary login. Its password is shown once and kept nowhere.
type Access struct {
	Tenant shardmap.TenantID `json:"tenant"`
	// Session is the break-glass access that it is listed as, and ended by.
	Session string           `json:"session"`
	Shard   shardmap.ShardID `json:"shard"`
	// Postgres is the server itself, for psql and dumps; Bouncer is for clients
	// that are to follow a move, and keeps a session for one transaction only.
	Postgres  Endpoint  `json:"postgres"`
	Bouncer   Endpoint  `json:"bouncer"`
	Database  string    `json:"database"`
	User      string    `json:"user"`
	Password  string    `json:"password"`
	As        string    `json:"as"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Shard is one Postgres server with its PgBouncer.
type Shard struct {
	ID shardmap.ShardID `json:"id"`
	// State is active, cordoned, draining or down.
	State    string            `json:"state"`
	Region   string            `json:"region"`
	Class    string            `json:"class"`
	Labels   map[string]string `json:"labels"`
	Postgres Endpoint          `json:"postgres"`
	Bouncer  Endpoint          `json:"bouncer"`
	// RoutesFile is PgBouncer's list of explicit entries; empty if there is none.
	RoutesFile string `json:"routes_file,omitempty"`
	// PostgresTLSDir is a directory on Postgres's machine with ca.crt, and tls.crt and
	// tls.key to show, by which it connects to other shards' Postgres.
	PostgresTLSDir string `json:"postgres_tls_dir,omitempty"`
	// MaxDatabases bounds what provisioning places here; 0: no bound.
	MaxDatabases int `json:"max_databases"`
	// Tenants counts the databases that a tenant lives in, Ready those of the
	// warm pool, Databases all of them, which is what MaxDatabases bounds.
	Tenants   int       `json:"tenants"`
	Ready     int       `json:"ready"`
	Databases int       `json:"databases"`
	Version   int64     `json:"version"`
	CreatedAt time.Time `json:"created_at"`
}

// Endpoint is where a server listens: a name, an address, or a directory of a unix socket, and a port.
type Endpoint struct {
	Host string `json:"host"`
	Port uint16 `json:"port"`
}

// AddShard registers a server. Both logins are checked, then kept in the secret store; no answer ever shows them.
type AddShard struct {
	ID             string            `json:"id"`
	Region         string            `json:"region,omitempty"`
	Class          string            `json:"class,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Postgres       Endpoint          `json:"postgres"`
	Bouncer        Endpoint          `json:"bouncer"`
	RoutesFile     string            `json:"routes_file,omitempty"`
	PostgresTLSDir string            `json:"postgres_tls_dir,omitempty"`
	MaxDatabases   int               `json:"max_databases,omitempty"`
	// Admin is a superuser of the Postgres server, BouncerAdmin may use PgBouncer's console.
	Admin        Login `json:"admin"`
	BouncerAdmin Login `json:"bouncer_admin"`
}

// Login is a user and its password.
type Login struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// Operation is a durable piece of work and how far it is.
type Operation struct {
	ID     string            `json:"id"`
	Kind   string            `json:"kind"`
	Tenant shardmap.TenantID `json:"tenant,omitempty"`
	// State is pending, running, undoing, or one of the final ones: done, failed, canceled.
	State string `json:"state"`
	// Step is the step under way or next.
	Step string `json:"step,omitempty"`
	// PastNoReturn: the effect is committed, the operation only goes forward.
	PastNoReturn    bool     `json:"past_no_return"`
	CancelRequested bool     `json:"cancel_requested"`
	Attempt         int      `json:"attempt"`
	Progress        Progress `json:"progress"`
	// Receipt is what the operation has measured; final when State is done.
	Receipt    json.RawMessage `json:"receipt,omitempty"`
	Error      string          `json:"error,omitempty"`
	CreatedBy  string          `json:"created_by"`
	Reason     string          `json:"reason,omitempty"`
	CreatedAt  time.Time       `json:"created_at"`
	StartedAt  *time.Time      `json:"started_at,omitempty"`
	FinishedAt *time.Time      `json:"finished_at,omitempty"`
	NextRun    *time.Time      `json:"next_run,omitempty"`
	Worker     string          `json:"worker,omitempty"`
	// Asked is the pace that was asked of a copy since it began.
	Asked *Pace `json:"asked,omitempty"`
	// Steps is the journal, oldest first; only in the answer for one operation.
	Steps []Step `json:"steps,omitempty"`
}

// Final tells whether nothing will happen to the operation any more.
func (o Operation) Final() bool {
	return o.State == "done" || o.State == "failed" || o.State == "canceled"
}

// Progress is what a step under way says of itself.
type Progress struct {
	Phase      string  `json:"phase,omitempty"`
	Percent    float64 `json:"percent"`
	BytesDone  int64   `json:"bytes_done,omitempty"`
	BytesTotal int64   `json:"bytes_total,omitempty"`
	// BytesPerSecond is the rate, ETASeconds what is left; 0: unknown.
	BytesPerSecond float64 `json:"bytes_per_second,omitempty"`
	ETASeconds     float64 `json:"eta_seconds,omitempty"`
	// Waiting says what is waited for and why.
	Waiting string `json:"waiting,omitempty"`
}

// Step is one line of an operation's journal.
type Step struct {
	Step       string     `json:"step"`
	Undo       bool       `json:"undo"`
	Attempt    int        `json:"attempt"`
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Error      string     `json:"error,omitempty"`
}

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	// Position is the place in the log, from 1, without gaps.
	Position int64     `json:"position"`
	Time     time.Time `json:"time"`
	Actor    string    `json:"actor"`
	Role     string    `json:"role,omitempty"`
	Action   string    `json:"action"`
	// Object is what it was done to: "tenant/acme", "shard/s1".
	Object string            `json:"object"`
	Tenant shardmap.TenantID `json:"tenant,omitempty"`
	Reason string            `json:"reason,omitempty"`
	// Outcome is ok, accepted, refused, failed or canceled.
	Outcome   string          `json:"outcome"`
	Details   json.RawMessage `json:"details,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
	TraceID   string          `json:"trace_id,omitempty"`
	Address   string          `json:"address,omitempty"`
	// Hash is the record's leaf in the log's tree: hex of the SHA-256 of a zero byte and the record's text.
	Hash string `json:"hash"`
	// Leaf is that text, and Proof the hashes (base64) that lead from the leaf to
	// a checkpoint's root; where they were asked for, and the record was signed.
	Leaf  string   `json:"leaf,omitempty"`
	Proof []string `json:"proof,omitempty"`
}

// Headers of the admin API beyond HTTP's own.
const (
	// HeaderIdempotencyKey makes a mutation safe to send again: the same key and request give the same answer.
	HeaderIdempotencyKey = "Idempotency-Key"
	// HeaderReason says why, for the audit log.
	HeaderReason = "X-Freehold-Reason"
	// HeaderIfMatch makes a change only if the document is still at the version that its ETag had.
	HeaderIfMatch = "If-Match"
	// HeaderRequestID names a request in logs, the audit log and problems; made by the server unless sent.
	HeaderRequestID = "X-Request-ID"
	// HeaderReplayed is "true" on an answer that was given before under the same idempotency key.
	HeaderReplayed = "Idempotency-Replayed"
)
