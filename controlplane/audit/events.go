package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freehold-db/freehold/controlplane/catalog"
	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/failpoint"
	"github.com/freehold-db/freehold/shardmap"
)

const (
	// eventsConsumer is shared by all replicas: each message goes to one of them.
	eventsConsumer = "controlplane"
	eventsBatch    = 100
	eventsAckWait  = 30 * time.Second
	// eventsPending bounds how many messages all replicas together have taken and not ended with.
	eventsPending = 1000
	// eventsFetch bounds one wait for messages, eventsLook how long the stream is believed to be there.
	eventsFetch = 5 * time.Second
	eventsLook  = time.Minute
	// eventsTries is how often the catalog may refuse an event before it is given up.
	eventsTries = 5
)

// EventsOptions of [Events]. Zero values mean the default in brackets.
type EventsOptions struct {
	Replicas int           // of the stream [1]
	AckWait  time.Duration // when a message that a replica took and did not end with goes to another [30 s]
	Logger   *slog.Logger  // [slog.Default()]
	// Room says what is against more records in the outbox; messages wait in NATS then [nothing is]
	Room func(ctx context.Context) error
}

// Events carries what data-plane nodes refused from NATS into the catalog's
// audit outbox, each event once however often its message comes, until ctx
// ends; then it returns nil. Any number of replicas may run it. NATS or the
// catalog being away is waited out: messages stay in the stream meanwhile, as
// far as its bounds allow.
func Events(ctx context.Context, store *catalog.Store, nc *nats.Conn, opt EventsOptions) error {
	if opt.AckWait <= 0 {
		opt.AckWait = eventsAckWait
	}
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	e := &events{store: store, opt: opt, log: opt.Logger}
	for failures := 0; ctx.Err() == nil; {
		err := e.follow(ctx, nc, func() { failures = 0 })
		if err == nil || ctx.Err() != nil {
			continue
		}
		if failures++; failures == 1 && nc.IsConnected() {
			e.log.WarnContext(ctx, "audit events of nodes wait in NATS", slog.Any("error", err))
		}
		wait := 200 * time.Millisecond << min(failures, 6)
		sleep(ctx, wait/2+rand.N(wait/2), nil)
	}
	return nil
}

type events struct {
	store *catalog.Store
	opt   EventsOptions
	log   *slog.Logger
}

// follow makes stream and consumer if they are not there, and takes messages
// until something fails or it is time to look for both again.
func (e *events) follow(ctx context.Context, nc *nats.Conn, works func()) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	setUp, cancel := context.WithTimeout(ctx, callFor)
	defer cancel()
	stream, err := js.CreateOrUpdateStream(setUp, access.AuditStreamConfig(e.opt.Replicas))
	if err != nil {
		return err
	}
	consumer, err := stream.CreateOrUpdateConsumer(setUp, jetstream.ConsumerConfig{
		Durable: eventsConsumer, AckPolicy: jetstream.AckExplicitPolicy, AckWait: e.opt.AckWait, MaxAckPending: eventsPending,
	})
	if err != nil {
		return err
	}
	for until := time.Now().Add(eventsLook); time.Now().Before(until) && ctx.Err() == nil; {
		if err := e.take(ctx, consumer); err != nil {
			return err
		}
		works()
	}
	return nil
}

// take waits for a message and ends with it and those that are there already.
func (e *events) take(ctx context.Context, consumer jetstream.Consumer) error {
	if e.opt.Room != nil {
		if err := e.opt.Room(ctx); err != nil {
			return err
		}
	}
	wait, cancel := context.WithTimeout(ctx, eventsFetch)
	defer cancel()
	first, err := consumer.Next(jetstream.FetchContext(wait))
	switch {
	case errors.Is(err, nats.ErrTimeout), wait.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	messages := []jetstream.Msg{first}
	batch, err := consumer.FetchNoWait(eventsBatch - 1)
	if err == nil { // if not, there will be another time
		for m := range batch.Messages() {
			messages = append(messages, m)
		}
	}
	ctx, cancel = context.WithTimeout(ctx, callFor)
	defer cancel()
	return e.accept(ctx, messages)
}

// accept records messages and acknowledges them. If the catalog refuses one,
// not being away, each is tried by itself.
func (e *events) accept(ctx context.Context, messages []jetstream.Msg) error {
	var sound []jetstream.Msg
	var list []access.Event
	for _, m := range messages {
		event, err := decodeEvent(m.Data())
		if err == nil && m.Subject() != access.AuditSubjectOfAll && !shardmap.Spoke(m.Subject(), event.Node) {
			err = errors.New("audit event: another node's name")
		}
		if err != nil {
			e.giveUp(ctx, m, err)
			continue
		}
		sound, list = append(sound, m), append(list, event)
	}
	err := e.record(ctx, list)
	switch {
	case err == nil:
		for _, m := range sound {
			if err := m.Ack(); err != nil {
				return err // it comes again, and is known
			}
		}
		return nil
	case errors.Is(err, catalog.ErrUnavailable) || ctx.Err() != nil:
	case len(sound) > 1:
		for _, m := range sound {
			if err := e.accept(ctx, []jetstream.Msg{m}); err != nil {
				return err
			}
		}
		return nil
	default:
		if about, unknown := sound[0].Metadata(); unknown == nil && about.NumDelivered >= eventsTries {
			e.giveUp(ctx, sound[0], err)
			return nil
		}
	}
	for _, m := range sound {
		_ = m.NakWithDelay(time.Second) // or it comes again when its time is up
	}
	return err
}

// giveUp has a message never come again. Its text may be anybody's: the log has none of it.
func (e *events) giveUp(ctx context.Context, m jetstream.Msg, why error) {
	e.log.ErrorContext(ctx, "audit event of a node is dropped", slog.Any("error", why), slog.Int("bytes", len(m.Data())))
	_ = m.TermWithReason("no audit event") // or it comes again and is dropped then
}

func decodeEvent(data []byte) (event access.Event, err error) {
	if err := json.Unmarshal(data, &event); err != nil {
		return event, fmt.Errorf("audit event: not JSON: %d bytes", len(data))
	}
	return event.Clip(), event.Validate()
}

// record puts those events into the outbox that were never there, in one transaction.
func (e *events) record(ctx context.Context, list []access.Event) error {
	if len(list) == 0 {
		return nil
	}
	// In order, so that replicas with the same messages do not lock each other out.
	slices.SortFunc(list, func(a, b access.Event) int { return strings.Compare(a.ID, b.ID) })
	err := e.store.Tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, event := range list {
			tag, err := tx.Exec(ctx, `insert into audit_events (id) values ($1) on conflict do nothing`, event.ID)
			if err != nil {
				return fmt.Errorf("audit event %s: %w", event.ID, catalog.Classify(err))
			}
			if tag.RowsAffected() == 0 {
				continue
			}
			r, err := eventRecord(event)
			if err != nil {
				return err
			}
			if err := e.store.AppendAudit(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return failpoint.Hit("audit/events/recorded")
}

// eventRecord is what the audit log says of an event. Who is behind it is no
// operator: the name says so, and it is none that an operator can have.
func eventRecord(event access.Event) (catalog.AuditRecord, error) {
	details := map[string]any{"node": printable(event.Node)}
	for name, value := range map[string]string{"claimed": event.Claimed, "issuer": event.Issuer} {
		if value != "" {
			details[name] = printable(value)
		}
	}
	if event.More > 0 {
		details["more"] = event.More
	}
	text, err := json.Marshal(details)
	if err != nil {
		return catalog.AuditRecord{}, fmt.Errorf("audit event %s: %w", event.ID, err)
	}
	at := event.Time
	if away := time.Since(at); away < -time.Hour || away > 30*24*time.Hour {
		at = time.Time{} // a clock like that says nothing
	}
	subject := event.Subject
	if subject == "" {
		subject = "unknown"
	}
	return catalog.AuditRecord{
		Actor:  catalog.Actor{Name: "app/" + printable(subject), Role: "application", Reason: printable(event.Reason), RequestID: printable(event.RequestID), Address: printable(event.Remote)},
		Action: event.Action, Object: "tenant/" + string(event.Tenant), Tenant: event.Tenant, Outcome: "refused", Time: at, Details: text,
	}, nil
}

// printable keeps out what a database, a terminal or a reader would stumble over.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
