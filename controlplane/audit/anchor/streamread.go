package anchor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/freehold-db/freehold/controlplane/audit/proof"
	"github.com/freehold-db/freehold/internal/access"
)

// readWait is how long the next message of a stream that has it may take.
const readWait = 10 * time.Second

// Newest implements [Place]: the newest checkpoint, and the tree over the records.
func (s *Stream) Newest(ctx context.Context) ([]proof.Anchor, error) {
	stream, info, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.witnesses(info.Config); err != nil {
		return nil, err
	}
	var newest []proof.Anchor
	last, err := stream.GetLastMsgForSubject(ctx, access.AuditLogCheckpoints)
	if err == nil {
		newest = append(newest, proof.Anchor{Checkpoint: string(last.Data)})
	} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, err
	}
	copied := proof.Anchor{}
	if info.Config.MaxAge > 0 { // a stream that keeps more may do so since a moment ago
		copied.Since = time.Now().Add(-s.bounds.Keep)
	}
	var records proof.Frontier
	for m, err := range s.messages(ctx, stream, access.AuditLogRecords) {
		if err != nil {
			return nil, err
		}
		if records.Size() == 0 && info.Config.MaxAge > 0 {
			if copied.From, err = strconv.ParseInt(m.Headers().Get(access.AuditLogPosition), 10, 64); err != nil {
				return nil, fmt.Errorf("a record without a position: %w", err)
			}
		}
		records.Append(tlog.RecordHash(m.Data()))
	}
	if records.Size() > 0 {
		root := records.Root()
		copied.Root, copied.Records = &root, max(copied.From-1, 0)+records.Size()
		newest = append(newest, copied)
	}
	return newest, nil
}

// witnesses tells what is against believing a stream that is set up like that.
func (s *Stream) witnesses(c jetstream.StreamConfig) error {
	switch {
	case !c.DenyDelete || !c.DenyPurge || c.MaxMsgs > 0 || c.MaxMsgsPerSubject > 0 || c.AllowRollup || c.MaxBytes > 0 && c.Discard != jetstream.DiscardNew:
		return errors.New("the stream was set up to let messages go")
	case c.MaxAge > 0 && c.MaxAge < s.bounds.Keep:
		return fmt.Errorf("the stream was set up to let messages go after %v, and is to keep them for %v", c.MaxAge, s.bounds.Keep)
	}
	return nil
}

// turns is how far checkpoints may be out of turn in the stream, which has them in
// the order in which they came: of two replicas the slower one's come late.
const turns = 500

// Held implements [Place]: the stream's checkpoints.
func (s *Stream) Held(ctx context.Context, size int64) iter.Seq2[string, error] {
	type held struct {
		size int64
		note string
	}
	return func(yield func(string, error) bool) {
		stream, _, err := s.open(ctx)
		if err != nil {
			yield("", err)
			return
		}
		var wait []held // by size
		for m, err := range s.messages(ctx, stream, access.AuditLogCheckpoints) {
			if err != nil {
				yield("", err)
				return
			}
			h := held{note: string(m.Data())}
			if c, err := proof.Peek(m.Data()); err == nil {
				h.size = c.Size
			}
			if h.size > size {
				continue // of records that came since the export began
			}
			at, _ := slices.BinarySearchFunc(wait, h.size+1, func(w held, size int64) int { return cmp.Compare(w.size, size) })
			if wait = slices.Insert(wait, at, h); len(wait) > turns {
				if !yield(wait[0].note, nil) {
					return
				}
				wait = slices.Delete(wait, 0, 1)
			}
		}
		for _, h := range wait {
			if !yield(h.note, nil) {
				return
			}
		}
	}
}

func (s *Stream) open(ctx context.Context) (jetstream.Stream, *jetstream.StreamInfo, error) {
	if !s.nc.IsConnected() {
		return nil, nil, errAway
	}
	ctx, cancel := context.WithTimeout(ctx, streamCall)
	defer cancel()
	stream, err := s.js.Stream(ctx, access.AuditLogStream)
	if err != nil {
		return nil, nil, err
	}
	return stream, stream.CachedInfo(), nil
}

// messages reads a subject up to what is its last message now. Those that go meanwhile are left out.
func (s *Stream) messages(ctx context.Context, stream jetstream.Stream, subject string) iter.Seq2[jetstream.Msg, error] {
	return func(yield func(jetstream.Msg, error) bool) {
		setUp, cancel := context.WithTimeout(ctx, streamCall)
		defer cancel()
		last, err := stream.GetLastMsgForSubject(setUp, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return
		}
		if err != nil {
			yield(nil, err)
			return
		}
		consumer, err := stream.OrderedConsumer(setUp, jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}, DeliverPolicy: jetstream.DeliverAllPolicy})
		if err != nil {
			yield(nil, err)
			return
		}
		messages, err := consumer.Messages(jetstream.PullMaxMessages(streamBatch))
		if err != nil {
			yield(nil, err)
			return
		}
		defer messages.Stop()
		for {
			m, err := next(ctx, messages)
			var about *jetstream.MsgMetadata
			if err == nil {
				about, err = m.Metadata()
			}
			if !yield(m, err) || err != nil || about.Sequence.Stream >= last.Sequence {
				return
			}
		}
	}
}

func next(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}
