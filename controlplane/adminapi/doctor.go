package adminapi

import (
	"context"
	"net/http"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/doctor"
	"github.com/freehold-db/freehold/internal/problem"
	"github.com/freehold-db/freehold/shardmap"
)

// Doctor is what the API needs to look a fleet over (*doctor.Doctor).
type Doctor interface {
	Look(ctx context.Context, o doctor.Options) (doctor.Report, error)
}

// doctorSecurity looks the fleet over for what is less tight than the platform makes it.
func (a *API) doctorSecurity(ctx context.Context, c *call) (answer, error) {
	if err := onlyParameters(c.query, "shard", "all"); err != nil {
		return answer{}, err
	}
	var o doctor.Options
	if s := c.query.Get("shard"); s != "" {
		var err error
		if o.Shard, err = shardmap.ParseShardID(s); err != nil {
			return answer{}, invalidParameter("shard", "is not a shard's ID")
		}
	}
	switch c.query.Get("all") {
	case "", "false":
	case "true":
		o.PerShard = -1
	default:
		return answer{}, invalidParameter("all", "is neither true nor false")
	}
	if a.Doctor == nil {
		return answer{}, problem.New(http.StatusServiceUnavailable, "no_doctor", "this replica does not look the fleet over", "ask another one")
	}
	r, err := a.Doctor.Look(ctx, o)
	if err != nil {
		return answer{}, err
	}
	doc := api.SecurityReport{At: r.At, Shards: r.Shards, Databases: r.Databases, Looked: r.Looked, Findings: []api.SecurityFinding{}}
	for _, f := range r.Findings {
		doc.Findings = append(doc.Findings, api.SecurityFinding{Severity: string(f.Severity), Check: f.Check, Shard: f.Shard, Where: f.Where, What: f.What, Remedy: f.Remedy})
	}
	return ok(doc)
}
