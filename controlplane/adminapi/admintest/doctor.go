package admintest

import (
	"context"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/controlplane/doctor"
)

// Doctor finds one thing wherever it looks, and knows the shards s1 and s2.
type Doctor struct{}

// Look implements adminapi.Doctor.
func (Doctor) Look(_ context.Context, o doctor.Options) (doctor.Report, error) {
	r := doctor.Report{At: time.Now().UTC(), Shards: 2, Databases: 10, Looked: 5, Findings: []doctor.Finding{
		{Severity: doctor.Critical, Check: "hba-method", Shard: "s1", Where: "pg_hba.conf line 3", What: "method trust", Remedy: "scram-sha-256"},
	}}
	switch o.Shard {
	case "", "s1":
	case "s2":
		r.Findings = nil
	default:
		return doctor.Report{}, fmt.Errorf("shard %s: %w", o.Shard, catalog.ErrNotFound)
	}
	if o.Shard != "" {
		r.Shards = 1
	}
	if o.PerShard < 0 {
		r.Looked = r.Databases
	}
	return r, nil
}
