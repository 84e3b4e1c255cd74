package anchor

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

// StreamState is how full the stream is, as of the last look.
type StreamState struct {
	Bytes int64
	// MaxBytes is its bound; 0: it has none, as older versions made it.
	MaxBytes int64
}

// nearly is the part of its bound from which on a stream is said to be nearly full.
const nearly = 0.8

// NearlyFull tells whether it will take no more records soon, or takes none now.
func (s StreamState) NearlyFull() bool {
	return s.MaxBytes > 0 && float64(s.Bytes) >= nearly*float64(s.MaxBytes)
}

// State is as of the last look; nil: nobody has seen the stream yet.
func (s *Stream) State() *StreamState { return s.seen.Load() }

// Look looks now, and makes the stream if there is none. Errors: what NATS has against it.
func (s *Stream) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streamCall)
	defer cancel()
	_, err := s.make(ctx)
	return err
}

// look notes how full the stream is, and says once when it gets near its bound.
func (s *Stream) look(ctx context.Context, info *jetstream.StreamInfo) {
	now := &StreamState{Bytes: int64(info.State.Bytes), MaxBytes: max(info.Config.MaxBytes, 0)} //nolint:gosec // of a disk
	was := s.seen.Swap(now)
	if now.NearlyFull() && (was == nil || !was.NearlyFull()) {
		s.log.ErrorContext(ctx, "the audit log's stream is nearly full and will take no more copies; give it more room",
			slog.Int64("bytes", now.Bytes), slog.Int64("max_bytes", now.MaxBytes))
	}
}

// gauges show the state at /metrics.
func (s *Stream) gauges() []prometheus.Collector {
	show := func(name, help string, of func(StreamState) int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			if now := s.State(); now != nil {
				return float64(of(*now))
			}
			return 0
		})
	}
	return []prometheus.Collector{
		show("freehold_audit_stream_bytes", "Size of the audit log's copy in NATS.", func(s StreamState) int64 { return s.Bytes }),
		show("freehold_audit_stream_max_bytes", "Size at which the copy takes no more; 0: it has no bound.", func(s StreamState) int64 { return s.MaxBytes }),
	}
}
