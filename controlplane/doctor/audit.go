package doctor

import (
	"fmt"
	"time"
)

// Audit is how the audit log's outbox in the catalog is, and its copy in NATS.
type Audit struct {
	// Err is why the outbox can't be looked at.
	Err error
	// Waiting records wait to be in the log, of which Max may, the oldest for Oldest.
	Waiting, Max int64
	Oldest       time.Duration
	// Why is what keeps them: "away", "diverged", "tampered"; empty: nothing.
	Why string
	// StreamSeen tells whether there are figures of the copy. StreamMax 0: it has no bound.
	StreamSeen             bool
	StreamBytes, StreamMax int64
	StreamNearlyFull       bool
}

// waitsLong is how long a record may wait before somebody should look.
const waitsLong = 5 * time.Minute

func (a Audit) judge(f *findings) {
	const outbox, copied = "audit-outbox", "audit-stream"
	remedy := "have the audit database (audit_dsn) answer again; nothing is lost meanwhile"
	if a.Why == "diverged" || a.Why == "tampered" {
		remedy = "docs/operators/audit.md, Verify says tampered: nothing but that gets records into the log again"
	}
	switch {
	case a.Err != nil:
		f.add(Unknown, outbox, "catalog", "it could not be looked at: "+a.Err.Error(), "see whether the catalog answers")
	case a.Waiting >= a.Max:
		f.add(Critical, outbox, "catalog", fmt.Sprintf("%d records or more wait to be in the audit log, and changes are refused", a.Max), remedy)
	case a.Why == "diverged" || a.Why == "tampered":
		f.add(Critical, outbox, "catalog", fmt.Sprintf("%d records wait to be in the audit log, which disagrees with what was sent before (%s)", a.Waiting, a.Why), remedy)
	case a.Why != "" || a.Oldest > waitsLong:
		f.add(Warning, outbox, "catalog", fmt.Sprintf("%d records wait to be in the audit log, the oldest for %s", a.Waiting, a.Oldest.Round(time.Second)), remedy)
	}
	switch {
	case !a.StreamSeen:
		f.add(Unknown, copied, "FREEHOLD_AUDIT_LOG", "the audit log's copy in NATS was not seen yet", "see whether NATS answers (nats_url, nats_audit_seed_file)")
	case a.StreamMax == 0:
		f.add(Warning, copied, "FREEHOLD_AUDIT_LOG", "the audit log's copy in NATS has no bound, as older versions made it: it may take the room of placements",
			"as NATS' administrator: nats stream edit FREEHOLD_AUDIT_LOG --max-age=90d --max-bytes=1GiB")
	case a.StreamNearlyFull:
		f.add(Warning, copied, "FREEHOLD_AUDIT_LOG", fmt.Sprintf("the audit log's copy in NATS has %d of %d bytes and takes no more when it is full", a.StreamBytes, a.StreamMax),
			"as NATS' administrator: nats stream edit FREEHOLD_AUDIT_LOG --max-bytes=…")
	}
}
