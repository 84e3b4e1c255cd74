// Package natsrole says who may do what in NATS: the subjects of each role, in
// one place for the embedded server, a production cluster's configuration and
// the tests.
//
// What keeps a data-plane node from speaking for others:
//
//   - It publishes on subjects that end in its own name, and its inbox is its own.
//   - It may answer on its own subjects only, never on whichever a message names
//     (allow_responses): a node that speaks to itself would name any it likes.
//   - The copy of the audit log is in another account.
//   - It reads no stream or bucket that a node writes to: JetStream delivers what
//     is read wherever the reader says, and asks nobody's permission for that.
//
// What remains: by the same way a node that was taken over may have a copy of
// what it may read put where another copy should be. It cannot forge one;
// readers refuse a document that is not of its key, and the control plane
// mends buckets every minute.
//
// Import law: of this module, natsrole imports shardmap, internal/access and internal/traffic only.
package natsrole

import (
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

// SubjectDemand is the prefix of `freehold.gateway.demand.<node>`, where a node tells the others what demand it sees.
const SubjectDemand = "freehold.gateway.demand."

// Role is whom a connection is for.
type Role struct {
	// Name is for people, and for the inbox.
	Name string
	// Account is the part of NATS that the role is in: nothing that is said in one is heard in another.
	Account string
	// Publish and Subscribe are the subjects that it may publish on and hear; all others are refused.
	Publish, Subscribe []string
}

// Accounts.
const (
	fleet = "FLEET"
	// audit has the audit log's stream: by no way can a node put anything into it.
	audit = "AUDIT"
)

// Inbox is the prefix of the subjects on which the role's own questions are
// answered; nobody else may hear them.
func (r Role) Inbox() string { return inbox(r.Name) }

func inbox(name string) string { return "freehold.inbox." + name }

// ControlPlane is every replica of the control plane: it makes and fills the
// buckets, asks nodes, and reads what they say. It deletes and purges no stream.
func ControlPlane() Role {
	const name = "controlplane"
	r := Role{Name: name, Account: fleet,
		// The last is asked before a bucket is made.
		Publish:   []string{shardmap.SubjectHold + "*", shardmap.SubjectRelease + "*", shardmap.SubjectRenew + "*", "$JS.API.INFO"},
		Subscribe: []string{inbox(name) + ".>", shardmap.SubjectAnswers + "*.*", traffic.Subject + "*"},
	}
	for _, b := range []string{shardmap.BucketPlacements, shardmap.BucketShards, access.Bucket} {
		r.Publish = append(r.Publish, "$KV."+b+".>")
	}
	for _, b := range []string{shardmap.BucketPlacements, shardmap.BucketShards, access.Bucket, shardmap.BucketNodes} {
		r.Publish = append(r.Publish, manage("KV_"+b)...)
		r.Publish = append(r.Publish, read("KV_"+b)...)
	}
	r.Publish = append(r.Publish, manage(access.AuditStream)...)
	r.Publish = append(r.Publish,
		"$JS.API.CONSUMER.*."+access.AuditStream+".controlplane", // create, info
		"$JS.API.CONSUMER.MSG.NEXT."+access.AuditStream+".controlplane",
		"$JS.ACK."+access.AuditStream+".controlplane.>")
	return r
}

// Auditor is how the control plane makes the copy of the audit log, adds to it
// and reads it. Nothing changes it once it is made, or takes anything out of it.
func Auditor() Role {
	const name, stream = "auditor", access.AuditLogStream
	r := Role{Name: name, Account: audit, Publish: []string{
		access.AuditLogRecords, access.AuditLogCheckpoints,
		info(stream), "$JS.API.STREAM.CREATE." + stream, // a stream that is there stays as it is
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".*",
	}, Subscribe: []string{inbox(name) + ".>"}}
	r.Publish = append(r.Publish, read(stream)...)
	return r
}

// Node is the data-plane node of that name: it reads placements, shards and
// access documents, and speaks for itself.
func Node(name string) Role {
	token := shardmap.NodeToken(name)
	r := Role{Name: "node." + token, Account: fleet,
		Publish: []string{
			"$KV." + shardmap.BucketNodes + "." + name, // its heartbeat
			info("KV_" + shardmap.BucketNodes),
			traffic.Subject + token, SubjectDemand + token, access.AuditSubject + token, shardmap.SubjectAnswers + "*." + token,
		},
		Subscribe: []string{inbox("node."+token) + ".>", shardmap.SubjectHold + "*", shardmap.SubjectRelease + "*", shardmap.SubjectRenew + "*", SubjectDemand + "*"},
	}
	for _, b := range []string{shardmap.BucketPlacements, shardmap.BucketShards, access.Bucket} {
		r.Publish = append(r.Publish, read("KV_"+b)...)
		r.Publish = append(r.Publish, info("KV_"+b))
	}
	return r
}

func info(stream string) string { return "$JS.API.STREAM.INFO." + stream }

// manage is what it takes to make a stream, and to change its bounds.
func manage(stream string) []string {
	return []string{info(stream), "$JS.API.STREAM.CREATE." + stream, "$JS.API.STREAM.UPDATE." + stream}
}

// read is what it takes to get a key of a bucket and to watch all of it.
func read(stream string) []string {
	return []string{
		"$JS.API.DIRECT.GET." + stream + ".>",
		"$JS.API.CONSUMER.CREATE." + stream + ".>",
		"$JS.API.CONSUMER.DELETE." + stream + ".*", // a watch ends its own
		"$JS.FC." + stream + ".>",                  // and is asked whether it keeps up
	}
}
