package main

import (
	"context"
	"fmt"
)

// audit reports what the audit log costs whoever makes a change, how fast
// records get into it, and how long it takes to check all of it.
func (b *bench) audit(ctx context.Context, _ *fleet) error {
	record, err := goBench(ctx, "./controlplane/audit", "^BenchmarkRecord$", "20x")
	if err != nil {
		return err
	}
	log, err := goBench(ctx, "./controlplane/audit", "^BenchmarkLog$", "1x")
	if err != nil {
		return err
	}
	r := &b.report
	v, m := record["Record"], log["Log"]
	r.title("The audit log, of 100,000 records")
	r.plain("a change's transaction with its record", figure(v["with-µs"], "µs"), fmt.Sprintf("without %.0f: the record adds %.0f", v["without-µs"], v["with-µs"]-v["without-µs"]))
	r.plain("records into the log and its tree", figure(m["append/s"], "/s"), "one replica, from the catalog's outbox, 500 at a time")
	r.plain("  on disk", figure(m["B/record"], "B/record"), "with its hashes in the tree and all indexes")
	r.plain("  sign a checkpoint", figure(m["sign-ms"], "ms"), "")
	r.plain("  prove a record", figure(m["proof-ms"], "ms"), "")
	r.atMost("verify all of it", "s", m["verify-s"], 10, "from the database")
	r.plain("  export", figure(m["export-s"], "s"), fmt.Sprintf("%.0f bytes a record", m["export-B/record"]))
	r.plain("  verify the export", figure(m["verify-file-s"], "s"), "")
	return nil
}
