package shardmap

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// The names under which placements and cutover messages travel over NATS.
// Everything there is a copy: late, lost, doubled or reordered messages must
// never harm (see the package comment of router and docs/architecture.md).
const (
	// BucketPlacements is the JetStream KV bucket: key tenant ID, value JSON [Placement].
	BucketPlacements = "placements"
	// BucketShards is the JetStream KV bucket: key shard ID, value JSON [Shard].
	BucketShards = "shards"
	// BucketNodes holds the heartbeats of data-plane nodes: key node ID, TTL [NodeTTL].
	BucketNodes = "nodes"
	// NodeTTL is the life of a node's heartbeat; nodes renew it at a third of that.
	NodeTTL = 15 * time.Second
	// SubjectHold is the prefix of `freehold.hold.<tenant>`: JSON [Hold] as a request; each node answers (see [AnswerOf]) with one JSON [HoldAck].
	SubjectHold = "freehold.hold."
	// SubjectRelease is the prefix of `freehold.release.<tenant>`: JSON [Release]; if it names a subject to reply to, each node answers with one JSON [HoldReport].
	SubjectRelease = "freehold.release."
	// SubjectAnswers is the prefix of `freehold.answers.<question>.<node>`, see [AnswersTo].
	SubjectAnswers = "freehold.answers."
)

var nodePattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$`)

// CheckNode refuses what is no name of a node: letters, digits, '-', '_' and '.' are.
func CheckNode(name string) error {
	if !nodePattern.MatchString(name) {
		return fmt.Errorf("node name %.60q: want letters, digits, '-', '_' and '.'", name)
	}
	return nil
}

// NodeToken is a node's name as one token of a subject. A node may publish as
// itself only: on subjects that end in its own token.
func NodeToken(node string) string { return strings.ReplaceAll(node, ".", "~") } // no name has a '~'

// anyNode stands in the subject to reply to where an answer has the node's
// token. No node's is like that, so no key of a node may publish there.
const anyNode = "~"

// AnswersTo are, for a question with an ID of its own (one token of a subject),
// the subject that it names to reply to and the one that all answers come on.
func AnswersTo(id string) (reply, all string) {
	return SubjectAnswers + id + "." + anyNode, SubjectAnswers + id + ".*"
}

// AnswerOf is where a node answers a question that named that subject to reply
// to. A control plane of before names one that is for all nodes.
func AnswerOf(reply, node string) string {
	question, ok := strings.CutSuffix(reply, "."+anyNode)
	if !ok {
		return reply
	}
	return question + "." + NodeToken(node)
}

// Answered tells whether an answer on that subject is the named node's: [Spoke],
// or it came where a node of before answers, which just replies.
func Answered(subject, node string) bool {
	return Spoke(subject, node) || node != "" && strings.HasPrefix(subject, SubjectAnswers) && strings.HasSuffix(subject, "."+anyNode)
}

// Spoke tells whether a message on that subject is the named node's.
func Spoke(subject, node string) bool {
	return node != "" && strings.HasSuffix(subject, "."+NodeToken(node))
}

// Hold asks every node to keep new requests of a tenant back while its
// placement flips, and to say when those under way are done. It is a hint that
// shortens the pause; what keeps a stale node out is the fence in Postgres.
type Hold struct {
	Tenant TenantID `json:"tenant"`
	// Epoch is the placement's epoch when the hold was asked for; a placement with a greater one ends the hold.
	Epoch Epoch `json:"epoch"`
	// ID tells this attempt of a cutover from others; a release names it.
	ID string `json:"id"`
	// For is how long a node holds at most, counted from receipt by its own clock, in nanoseconds.
	For time.Duration `json:"for"`
}

// HoldAck is a node's answer to a [Hold].
type HoldAck struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	// Drained is true when no request of the tenant was under way at the node any more.
	Drained bool `json:"drained"`
}

// HoldReport is a node's answer to a [Release]: what its own requests saw of
// the hold. Nodes of older versions don't answer.
type HoldReport struct {
	Node string `json:"node"`
	ID   string `json:"id"`
	// Held is how many requests waited because of the hold.
	Held int `json:"held"`
	// Longest is how long the oldest of them waited, in nanoseconds.
	Longest time.Duration `json:"longest"`
}

// Release ends a hold without a new placement (the cutover was given up), or
// brings the new placement along so that nodes need not wait for the KV watch.
type Release struct {
	Tenant TenantID `json:"tenant"`
	ID     string   `json:"id"`
	// Placement is set when the cutover committed.
	Placement *Placement `json:"placement,omitempty"`
	// Follow: who is still logged in at the old place's PgBouncer is led to the new place by it.
	Follow bool `json:"follow,omitempty"`
}
