package clone

import (
	"time"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/shardmap"
)

// Receipt says what a clone did and measured.
type Receipt struct {
	Tenant shardmap.TenantID `json:"tenant"`
	Source shardmap.TenantID `json:"source"`
	// From is where the source was when it was copied, Placement where the new tenant is.
	From       shardmap.Placement  `json:"from"`
	Placement  *shardmap.Placement `json:"placement,omitempty"`
	SchemaOnly bool                `json:"schema_only,omitempty"`

	Tables int   `json:"tables"` // whose rows were copied
	Rows   int64 `json:"rows"`
	Bytes  int64 `json:"bytes"` // on the source's disk, without indexes
	// StreamedBytes went over the wire.
	StreamedBytes int64 `json:"streamed_bytes"`
	// SnapshotAt is the moment whose state the clone holds.
	SnapshotAt *time.Time `json:"snapshot_at,omitempty"`
	// Copies is greater than one if the source's schema changed meanwhile.
	Copies int     `json:"copies"`
	Phases []Phase `json:"phases"`
	// Verification is "equal" when every copied row was compared under the one snapshot.
	Verification string           `json:"verification"`
	Warnings     []survey.Finding `json:"warnings,omitempty"`
	Notes        []string         `json:"notes,omitempty"`
}

// Phase is how long a part took.
type Phase struct {
	Name string  `json:"name"`
	MS   float64 `json:"ms"`
}

func (r *Receipt) phase(name string, since time.Time) {
	took := float64(time.Since(since).Microseconds()) / 1000
	for i := range r.Phases {
		if r.Phases[i].Name == name {
			r.Phases[i].MS = took
			return
		}
	}
	r.Phases = append(r.Phases, Phase{name, took})
}
