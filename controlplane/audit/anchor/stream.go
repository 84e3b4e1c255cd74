package anchor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/sleep"
)

const (
	streamBatch = 500
	streamPoll  = 2 * time.Second
	streamCall  = 5 * time.Second
)

var errAway = errors.New("NATS is away")

// Stream is a JetStream stream as a place: it has a copy of the records of its
// time, too. What is in it was in the audit database before, so that what its
// age takes out of it, or what it is too full for, is lost nowhere.
type Stream struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int
	bounds   access.AuditLogBounds
	log      *slog.Logger
	seen     atomic.Pointer[StreamState]
}

// StreamOptions of [NewStream]. Zero values mean the default in brackets.
type StreamOptions struct {
	Replicas int                   // of the stream [1]
	Bounds   access.AuditLogBounds // [as there]
	Registry prometheus.Registerer
	Logger   *slog.Logger // [slog.Default()]
}

// NewStream uses the stream of [access.AuditLogStreamConfig] by a connection, and makes it when it is needed first.
func NewStream(nc *nats.Conn, opt StreamOptions) (*Stream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("audit log's stream: %w", err)
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	opt.Bounds.Defaults()
	s := &Stream{nc: nc, js: js, replicas: opt.Replicas, bounds: opt.Bounds, log: opt.Logger}
	if opt.Registry != nil {
		opt.Registry.MustRegister(s.gauges()...)
	}
	return s, nil
}

// Name implements [Place].
func (s *Stream) Name() string { return "stream" }

// make makes the stream unless there is one, and looks how full it is. It never changes one that is there.
func (s *Stream) make(ctx context.Context) (jetstream.Stream, error) {
	if !s.nc.IsConnected() {
		return nil, errAway // at once: who stops does not wait for it
	}
	stream, err := s.js.Stream(ctx, access.AuditLogStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.js.CreateStream(ctx, access.AuditLogStreamConfig(s.replicas, s.bounds))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another replica made it
			stream, err = s.js.Stream(ctx, access.AuditLogStream)
		}
	}
	if err == nil {
		s.look(ctx, stream.CachedInfo())
	}
	return stream, err
}

// Keep implements [Place].
func (s *Stream) Keep(ctx context.Context, size int64, note string) error {
	ctx, cancel := context.WithTimeout(ctx, streamCall)
	defer cancel()
	stream, err := s.make(ctx)
	if err != nil {
		return err
	}
	last, err := stream.GetLastMsgForSubject(ctx, access.AuditLogCheckpoints)
	if err == nil && string(last.Data) == note {
		return nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return err
	}
	_, err = s.js.Publish(ctx, access.AuditLogCheckpoints, []byte(note), jetstream.WithMsgID("checkpoint "+strconv.FormatInt(size, 10)))
	return err
}

// Run copies records of log to the stream until ctx ends; then it returns nil.
// A stream that is full is waited out: it has room when what is old goes.
// Any number of replicas may run it. NATS being away is waited out.
func (s *Stream) Run(ctx context.Context, log *audit.Log) error {
	for failures := 0; ctx.Err() == nil; {
		n, err := s.copy(ctx, log)
		wait := streamPoll
		switch {
		case err == nil && n == streamBatch:
			wait = 0
			fallthrough
		case err == nil:
			failures = 0
		default:
			if failures++; failures == 1 && ctx.Err() == nil {
				s.log.WarnContext(ctx, "the audit log's stream is behind", slog.Any("error", err))
			}
			wait = 200 * time.Millisecond << min(failures, 6)
		}
		if wait > 0 {
			wait = wait/2 + rand.N(wait/2) //nolint:gosec // jitter
		}
		if sleep.For(ctx, wait) != nil {
			break
		}
	}
	return nil
}

// Copy brings the stream up to date with log. Errors: what NATS or the log has against it.
func (s *Stream) Copy(ctx context.Context, log *audit.Log) error {
	for {
		if n, err := s.copy(ctx, log); err != nil || n == 0 {
			return err
		}
	}
}

// copy publishes the records that come after the stream's last one. Each says
// which message it follows, so that of several replicas one does it.
func (s *Stream) copy(ctx context.Context, log *audit.Log) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, keepFor)
	defer cancel()
	stream, err := s.make(ctx)
	if err != nil {
		return 0, err
	}
	var position int64
	var after uint64
	last, err := stream.GetLastMsgForSubject(ctx, access.AuditLogRecords)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound): // a new stream, or nothing was logged for long: what would go at once is not put there
		if position, err = log.Before(ctx, time.Now().Add(-s.bounds.Keep)); err != nil {
			return 0, err
		}
	case err != nil:
		return 0, err
	default:
		if position, err = strconv.ParseInt(last.Header.Get(access.AuditLogPosition), 10, 64); err != nil {
			return 0, fmt.Errorf("a record without a position: %w", err)
		}
		after = last.Sequence
	}
	texts, err := log.Records(ctx, position, streamBatch)
	if err != nil {
		return 0, err
	}
	for i, text := range texts {
		position++
		m := nats.NewMsg(access.AuditLogRecords)
		m.Header.Set(access.AuditLogPosition, strconv.FormatInt(position, 10))
		m.Data = []byte(text)
		ack, err := s.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequencePerSubject(after))
		if err != nil {
			var refused *jetstream.APIError
			if errors.As(err, &refused) && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
				return i + 1, nil // another replica was faster: look again
			}
			return i, err
		}
		after = ack.Sequence
	}
	return len(texts), nil
}
