package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// The mix of requests, in percent; the rest reads one row by its ID.
const (
	putEntry    = 22
	putActivity = 8
	setBalance  = 4
	delEntry    = 4
	readPage    = 8
	readAccount = 4
)

// One in ephemeralEvery entries is deleted again.
const ephemeralEvery = 6

// act sends one request of the mix and books it.
func (c *Client) act(ctx context.Context, b *book, due time.Time) {
	n := rand.IntN(100)
	for _, a := range []struct {
		share int
		do    func(context.Context, *book, time.Time) bool
	}{
		{putEntry, c.putEntry}, {putActivity, c.putActivity}, {setBalance, c.setBalance}, {delEntry, c.delEntry},
		{readPage, c.readPage}, {readAccount, c.readAccount}, {100, c.readOne},
	} {
		if n -= a.share; n < 0 && a.do(ctx, b, due) {
			return
		}
	}
	c.putEntry(ctx, b, due) // nothing to read yet
}

func asFailure(err error) *Failure {
	var f *Failure
	if err != nil && !errors.As(err, &f) {
		f = &Failure{At: time.Now(), Text: err.Error()}
	}
	return f
}

func (c *Client) putEntry(ctx context.Context, b *book, due time.Time) bool {
	id := uuid.New()
	w := &write{ephemeral: rand.IntN(ephemeralEvery) == 0}
	b.mu.Lock()
	b.entries[id] = w // in the book before it leaves
	b.mu.Unlock()
	f := asFailure(c.call(ctx, b, request{method: http.MethodPost, path: "/rest/v1/entries", body: map[string]any{
		"id": id, "account_id": b.account, "amount": float64(rand.IntN(100_000)) / 100, "tenant": b.tenant.ID}}, nil))
	b.mu.Lock()
	w.put = w.settle(f)
	switch {
	case w.put != acked:
	case w.ephemeral:
		b.doomed = append(b.doomed, id)
	default:
		b.lasting = append(b.lasting, id)
	}
	b.mu.Unlock()
	b.finished(due, true, f)
	return true
}

// putActivity writes to a table without a key: what is written twice is there twice.
func (c *Client) putActivity(ctx context.Context, b *book, due time.Time) bool {
	id := uuid.New()
	w := &write{}
	b.mu.Lock()
	b.activity[id] = w
	b.mu.Unlock()
	f := asFailure(c.call(ctx, b, request{method: http.MethodPost, path: "/rest/v1/activity", body: map[string]any{
		"what": c.what(b), "detail": map[string]any{"id": id, "tenant": b.tenant.ID}}}, nil))
	b.mu.Lock()
	w.put = w.settle(f)
	b.mu.Unlock()
	b.finished(due, true, f)
	return true
}

// what marks the activity of this run, and with the tenant's tag.
func (c *Client) what(b *book) string { return "ledger " + c.run + " " + string(b.tenant.ID) }

// setBalance counts the account's balance up, one request at a time, so that
// an acknowledged update that is gone shows as a balance that is too low.
func (c *Client) setBalance(ctx context.Context, b *book, due time.Time) bool {
	b.mu.Lock()
	if b.balanceBusy {
		b.mu.Unlock()
		return false
	}
	b.balanceBusy = true
	b.balanceTry++
	value := b.balanceTry
	b.mu.Unlock()
	f := asFailure(c.call(ctx, b, request{method: http.MethodPatch, path: fmt.Sprintf("/rest/v1/accounts?id=eq.%d", b.account),
		body: map[string]any{"balance": value}}, nil))
	b.mu.Lock()
	b.balanceBusy = false
	if f == nil {
		b.balanceAck = value
		b.balances++
	}
	b.mu.Unlock()
	b.finished(due, true, f)
	return true
}

func (c *Client) delEntry(ctx context.Context, b *book, due time.Time) bool {
	b.mu.Lock()
	if len(b.doomed) == 0 {
		b.mu.Unlock()
		return false
	}
	id := b.doomed[0]
	b.doomed = b.doomed[1:]
	w := b.entries[id]
	w.deleting = true
	b.mu.Unlock()
	f := asFailure(c.call(ctx, b, request{method: http.MethodDelete, path: "/rest/v1/entries?id=eq." + id.String()}, nil))
	b.mu.Lock()
	w.del = w.settle(f)
	b.mu.Unlock()
	b.finished(due, true, f)
	return true
}

// row is an entry as reads ask for it.
type row struct {
	ID     uuid.UUID `json:"id"`
	Tenant string    `json:"tenant"`
}

// readOne reads an acknowledged entry: it must be there, whole, and own.
func (c *Client) readOne(ctx context.Context, b *book, due time.Time) bool {
	b.mu.Lock()
	if len(b.lasting) == 0 {
		b.mu.Unlock()
		return false
	}
	id := b.lasting[rand.IntN(len(b.lasting))]
	b.mu.Unlock()
	var rows []row
	r := request{method: http.MethodGet, path: "/rest/v1/entries?select=id,tenant&id=eq." + id.String()}
	f := asFailure(c.call(ctx, b, r, &rows))
	if f == nil && (len(rows) != 1 || rows[0].ID != id) {
		b.mu.Lock()
		b.missing++
		b.mu.Unlock()
		f = b.failure("", r, 200, fmt.Sprintf("acknowledged row %s was not read: %d rows", id, len(rows)), false)
		f.WrongAnswer = true
	}
	b.checkTags(rows)
	b.finished(due, false, f)
	return true
}

func (c *Client) readPage(ctx context.Context, b *book, due time.Time) bool {
	var rows []row
	f := asFailure(c.call(ctx, b, request{method: http.MethodGet,
		path: fmt.Sprintf("/rest/v1/entries?select=id,tenant&account_id=eq.%d&order=created_at.desc&limit=20", b.account)}, &rows))
	b.checkTags(rows)
	b.finished(due, false, f)
	return true
}

func (c *Client) readAccount(ctx context.Context, b *book, due time.Time) bool {
	var rows []struct {
		Tag string `json:"owner_tag"`
	}
	f := asFailure(c.call(ctx, b, request{method: http.MethodGet, path: "/rest/v1/accounts?select=owner_tag&order=id&limit=20"}, &rows))
	tags := make([]row, len(rows))
	for i, r := range rows {
		tags[i].Tenant = r.Tag
	}
	b.checkTags(tags)
	b.finished(due, false, f)
	return true
}

// checkTags counts the rows a read saw, and those of them that are another tenant's.
func (b *book) checkTags(rows []row) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rows {
		b.rows++
		if r.Tenant != string(b.tenant.ID) {
			b.foreign++
		}
	}
}
