package api

// How a copy behaves beside others who work on its servers: it goes one thing at
// a time, with rests, or as if nobody were there.
const (
	PaceConsiderate = "considerate"
	PaceFull        = "full"
)

// Pace asks a move or a clone that is under way to copy faster or slower. What
// it leaves out stays as it was.
type Pace struct {
	// MaxBytesPerS bounds the copy, in bytes a second over the wire; 0: as fast as the servers bear.
	MaxBytesPerS *int64 `json:"max_bytes_per_s,omitempty"`
	// Pace is PaceConsiderate or PaceFull.
	Pace string `json:"pace,omitempty"`
}
