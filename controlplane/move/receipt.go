package move

import (
	"math"
	"time"

	"github.com/freehold-db/freehold/controlplane/move/survey"
	"github.com/freehold-db/freehold/shardmap"
)

// MS is a duration in milliseconds, as receipts give it.
type MS float64

func ms(d time.Duration) MS { return MS(math.Round(float64(d)/1e3) / 1e3) }

// Receipt is what a move leaves for people. Every figure in it was measured.
type Receipt struct {
	Tenant   shardmap.TenantID `json:"tenant"`
	From     shardmap.ShardID  `json:"from"`
	To       shardmap.ShardID  `json:"to"`
	Database string            `json:"database"`

	Tables int   `json:"tables"`
	Rows   int64 `json:"rows"`
	// Bytes on disk of the tables copied, without indexes; StreamedBytes is what went over the wire for them.
	Bytes         int64 `json:"bytes"`
	StreamedBytes int64 `json:"streamed_bytes"`
	// CopyMBPerS is Bytes by the time from the snapshot until everything was
	// there with its indexes and constraints. CompareMS is what was spent
	// beside that on nothing but comparing.
	CopyMBPerS float64 `json:"copy_mb_per_s"`
	CompareMS  MS      `json:"compare_ms"`
	Copies     int     `json:"copies"` // more than 1: the schema changed meanwhile

	Phases []Phase `json:"phases"`
	// PauseMS is from the first request held back until nodes were told the new
	// place, AttachedPauseMS until clients attached to PgBouncers went on too.
	// ClientPauseMS is the longest that a request waited at any node that said so.
	PauseMS         MS        `json:"pause_ms"`
	AttachedPauseMS MS        `json:"attached_pause_ms"`
	ClientPauseMS   MS        `json:"client_pause_ms"`
	MaxPauseMS      MS        `json:"max_pause_ms"`
	Attempts        []Attempt `json:"attempts"`

	Verification Verification `json:"verification"`
	// SoakUntil is when the old place ends to follow, and with it the way back; nil: it does not.
	SoakUntil *time.Time       `json:"soak_until,omitempty"`
	Warnings  []survey.Finding `json:"warnings,omitempty"`
	Notes     []string         `json:"notes,omitempty"`
}

// Phase is one part of the move and how long it took.
type Phase struct {
	Name string `json:"name"`
	MS   MS     `json:"ms"`
}

// Attempt is one try of the cutover.
type Attempt struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"` // "flipped" or why it was given up; then nothing had changed
	// ForeseenMS is the pause that was expected of it, HeldMS how long clients were held back by it.
	ForeseenMS MS      `json:"foreseen_ms"`
	HeldMS     MS      `json:"held_ms"`
	Phases     []Phase `json:"phases,omitempty"`
	// NodesDrained of Nodes answered in time that they hold the tenant.
	NodesDrained int `json:"nodes_drained"`
	Nodes        int `json:"nodes"`
	// Clients is what requests saw of it, node by node; a node that is missing did not say.
	Clients []NodeHold `json:"clients,omitempty"`
}

// NodeHold is what requests at one node saw of an attempt, by the node's own word.
type NodeHold struct {
	Node string `json:"node"`
	// Held is how many requests waited, LongestMS how long the oldest of them did.
	Held      int `json:"held"`
	LongestMS MS  `json:"longest_ms"`
}

// Outcomes of a comparison.
const (
	Equal       = "equal"
	Mismatch    = "MISMATCH"
	NotVerified = "not verified"
)

// Verification says what was compared, and what was not.
type Verification struct {
	// Copy compares all rows under the snapshot that was copied: before streaming.
	Copy string `json:"copy"`
	// Objects compares everything but rows, when the copy is done: indexes, constraints, grants, policies, comments and the like.
	Objects string `json:"objects,omitempty"`
	// Final compares all rows of the frozen source with the target as it was at the barrier: after the flip.
	Final  string   `json:"final"`
	Tables int      `json:"tables"`
	Rows   int64    `json:"rows"`
	Detail []string `json:"detail,omitempty"`
}

// phase records how long a part took; a part done again replaces the figure.
func (r *Receipt) phase(name string, since time.Time) {
	took := ms(time.Since(since))
	for i := range r.Phases {
		if r.Phases[i].Name == name {
			r.Phases[i].MS = took
			return
		}
	}
	r.Phases = append(r.Phases, Phase{name, took})
}

// note adds a sentence once.
func (r *Receipt) note(text string) {
	for _, n := range r.Notes {
		if n == text {
			return
		}
	}
	r.Notes = append(r.Notes, text)
}
