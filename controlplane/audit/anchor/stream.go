package anchor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit"
	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/sleep"
)

const (
	streamBatch = 500
	streamPoll  = 2 * time.Second
	streamCall  = 5 * time.Second
	// readWait is how long the next message of a stream that has it may take.
	readWait = 10 * time.Second
)

var errAway = errors.New("NATS is away")

// Stream is a JetStream stream as a place: it has a copy of every record, too.
type Stream struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	replicas int
	log      *slog.Logger
}

// NewStream uses the stream of [access.AuditLogStreamConfig] by a connection, and makes it when it is needed first.
func NewStream(nc *nats.Conn, replicas int, log *slog.Logger) (*Stream, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("audit log's stream: %w", err)
	}
	return &Stream{nc: nc, js: js, replicas: replicas, log: log}, nil
}

// Name implements [Place].
func (s *Stream) Name() string { return "stream" }

// make makes the stream unless there is one. It never changes one that is there.
func (s *Stream) make(ctx context.Context) (jetstream.Stream, error) {
	if !s.nc.IsConnected() {
		return nil, errAway // at once: who stops does not wait for it
	}
	stream, err := s.js.Stream(ctx, access.AuditLogStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = s.js.CreateStream(ctx, access.AuditLogStreamConfig(s.replicas))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another replica made it
			stream, err = s.js.Stream(ctx, access.AuditLogStream)
		}
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
	case errors.Is(err, jetstream.ErrMsgNotFound):
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

// Held implements [Place]: the stream's checkpoints, and the tree over its records.
func (s *Stream) Held(ctx context.Context) iter.Seq2[proof.Anchor, error] {
	return func(yield func(proof.Anchor, error) bool) {
		if err := s.held(ctx, func(a proof.Anchor) bool { return yield(a, nil) }); err != nil {
			yield(proof.Anchor{}, err)
		}
	}
}

func (s *Stream) held(ctx context.Context, yield func(proof.Anchor) bool) error {
	if !s.nc.IsConnected() {
		return errAway
	}
	setUp, cancel := context.WithTimeout(ctx, streamCall)
	defer cancel()
	stream, err := s.js.Stream(setUp, access.AuditLogStream)
	if err != nil {
		return err
	}
	info, err := stream.Info(setUp)
	if err != nil {
		return err
	}
	if c := info.Config; !c.DenyDelete || !c.DenyPurge || c.MaxAge != 0 || c.MaxMsgs > 0 || c.MaxBytes > 0 || c.MaxMsgsPerSubject > 0 || c.AllowRollup {
		return errors.New("the stream was set up to let messages go")
	}
	if info.State.LastSeq == 0 {
		return nil
	}
	consumer, err := stream.OrderedConsumer(setUp, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(streamBatch))
	if err != nil {
		return err
	}
	defer messages.Stop()
	var records proof.Frontier
	for {
		m, err := next(ctx, messages)
		if err != nil {
			return err
		}
		switch m.Subject() {
		case access.AuditLogRecords:
			records.Append(tlog.RecordHash(m.Data()))
		case access.AuditLogCheckpoints:
			if !yield(proof.Anchor{Checkpoint: string(m.Data())}) {
				return nil
			}
		}
		about, err := m.Metadata()
		if err != nil {
			return err
		}
		if about.Sequence.Stream >= info.State.LastSeq {
			break
		}
	}
	if records.Size() > 0 {
		root := records.Root()
		yield(proof.Anchor{Records: records.Size(), Root: &root})
	}
	return nil
}

func next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}
