package feed

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const publishFor = 3 * time.Second

// Sink takes in a bucket's content, and then its changes. Its functions are
// called one at a time. Begin, Drop and Whole may be nil; without Drop a sink
// hears nothing of keys that went away.
type Sink struct {
	// Begin: what comes next is everything that is there, whatever came before.
	Begin func()
	// Take takes a value; false when it is malformed.
	Take func(key string, value []byte) bool
	// Drop: the key is gone.
	Drop func(key string)
	// Whole: all that was there has come.
	Whole func()
}

func (s Sink) begin() {
	if s.Begin != nil {
		s.Begin()
	}
}

func (s Sink) whole() {
	if s.Whole != nil {
		s.Whole()
	}
}

func (s Sink) options() []jetstream.WatchOpt {
	if s.Drop == nil {
		return []jetstream.WatchOpt{jetstream.IgnoreDeletes()}
	}
	return nil
}

// FollowAccess feeds to the documents of the bucket `access` until ctx ends,
// however often the connection or the bucket is lost. Call it once.
func (f *Feed) FollowAccess(ctx context.Context, to Sink) {
	f.access.sink = to
	f.follow(ctx, &f.access)
}

var errNoDocument = errors.New("no access document")

// LoadAccess reads one document: the bucket's copy, else what the control plane
// reads in the catalog. It is nil when the control plane says that there is
// none; an error means that nobody could be asked.
func (f *Feed) LoadAccess(ctx context.Context, key string) ([]byte, error) {
	copied, kvErr := f.get(ctx, &f.access, key)
	if kvErr == nil {
		return copied, nil
	}
	body, err := f.ask(ctx, "/v1/access/"+url.PathEscape(key), errNoDocument)
	switch {
	case errors.Is(err, errNoDocument):
		return nil, nil
	case err != nil:
		return nil, errors.Join(err, kvErr)
	}
	return body, nil
}

// Publish puts data into the JetStream stream that takes in subject, once per
// id however often it is called, and waits for the stream's word.
func (f *Feed) Publish(ctx context.Context, subject, id string, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, publishFor)
	defer cancel()
	_, err := f.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: data}, jetstream.WithMsgID(id), jetstream.WithRetryAttempts(0))
	return err
}
