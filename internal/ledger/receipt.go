package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Receipt is what was measured. Only [Client.Audit] makes one, out of the book.
type Receipt struct {
	Seconds  float64 `json:"seconds"`
	Requests int64   `json:"requests"`
	Reads    int64   `json:"reads"`
	Writes   int64   `json:"writes"`
	// RowsRead is how many rows reads saw, each checked for whose it is.
	RowsRead int64 `json:"rows_read"`
	// Failed requests got no good answer; Unknown are writes of which nobody could say whether they were done.
	Failed  int64 `json:"failed"`
	Unknown int64 `json:"unknown"`
	// TurnedAway connections were refused by a node, and the request went to the next one.
	TurnedAway int64 `json:"turned_away"`
	// ReadMissing: acknowledged rows that a read did not find. ReadForeign: rows of another tenant that reads saw.
	ReadMissing int64 `json:"read_missing"`
	ReadForeign int64 `json:"read_foreign"`

	Acknowledged int64 `json:"acknowledged_writes"`
	// Databases is the audit of the owning databases, API the one of what tenants see.
	Databases Tally `json:"databases"`
	API       Tally `json:"api"`

	P50 Milliseconds `json:"p50_ms"`
	P95 Milliseconds `json:"p95_ms"`
	P99 Milliseconds `json:"p99_ms"`
	Max Milliseconds `json:"max_ms"`

	Tenants  []TenantReceipt `json:"tenants"`
	Failures []Failure       `json:"failures,omitempty"`
}

// TenantReceipt is one tenant's part.
type TenantReceipt struct {
	Tenant   string  `json:"tenant"`
	Rate     float64 `json:"rate"`
	Requests int64   `json:"requests"`
	Failed   int64   `json:"failed"`
	Unknown  int64   `json:"unknown"`
	// LongestGap is the longest time between two good answers: the pause as a
	// client sees it. It cannot be shorter than the distance of two requests.
	LongestGap Milliseconds `json:"longest_gap_ms"`
	GapAt      time.Time    `json:"longest_gap_at"`
	P99        Milliseconds `json:"p99_ms"`
}

// Milliseconds marshals a duration as a number of milliseconds.
type Milliseconds time.Duration

// MarshalJSON writes milliseconds with three decimals.
func (m Milliseconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.3f", time.Duration(m).Seconds()*1000), nil
}

// String is for people.
func (m Milliseconds) String() string {
	d := time.Duration(m)
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// Wrong lists what the receipt shows that must not be, or nil.
func (r Receipt) Wrong() error {
	var wrong []error
	for _, w := range []struct {
		n    int64
		what string
	}{
		{r.Failed, "requests failed"}, {r.Unknown, "writes ended without anybody knowing whether they were done"},
		{r.ReadMissing, "reads missed an acknowledged row"}, {r.ReadForeign, "rows of another tenant were read"},
		{r.Databases.Lost, "acknowledged writes are lost"}, {r.Databases.Doubled, "writes are doubled"},
		{r.Databases.Ghosts, "rows are there that should not be"}, {r.Databases.Foreign, "rows of another tenant are in a database"},
		{r.API.Lost, "acknowledged writes are not seen over the API"}, {r.API.Doubled, "writes are seen doubled over the API"},
		{r.API.Ghosts, "rows are seen over the API that should not be"}, {r.API.Foreign, "rows of another tenant are seen over the API"},
	} {
		if w.n != 0 {
			wrong = append(wrong, fmt.Errorf("%d %s", w.n, w.what))
		}
	}
	return errors.Join(wrong...)
}

// Audit closes the book: it looks into every tenant's database (by source
// databases) and at what every tenant sees over the API, and writes the
// receipt. It fails when a place cannot be looked into, and with
// [ErrNothingMeasured] when any tenant made no request, wrote nothing, or read
// no row: then there is nothing to show.
func (c *Client) Audit(ctx context.Context, databases Source) (Receipt, error) {
	defer c.http.CloseIdleConnections()
	return c.audit(ctx, databases, c.API())
}

func (c *Client) audit(ctx context.Context, databases, api Source) (Receipt, error) {
	c.mu.Lock()
	started, ended := c.started, c.ended
	took := ended.Sub(started)
	c.mu.Unlock()
	if took <= 0 {
		return Receipt{}, fmt.Errorf("%w: the traffic never ran, or still runs", ErrNothingMeasured)
	}
	r := Receipt{Seconds: took.Seconds()}
	var latencies []time.Duration
	for _, b := range c.books {
		scope := Scope{Tenant: b.tenant.ID, Account: b.account, What: c.what(b)}
		for _, place := range []struct {
			name  string
			look  Source
			tally *Tally
		}{{"its database", databases, &r.Databases}, {"the API", api, &r.API}} {
			found, err := place.look(ctx, scope)
			if err != nil {
				return Receipt{}, fmt.Errorf("ledger: audit of tenant %s by %s: %w", b.tenant.ID, place.name, err)
			}
			place.tally.add(b.compare(found))
		}
		gap, at := b.longestGap(started, ended, started, ended)
		all, err := b.sumUp(&r, gap, at)
		if err != nil {
			return Receipt{}, err
		}
		latencies = append(latencies, all...)
	}
	slices.Sort(latencies)
	r.P50, r.P95, r.P99, r.Max = at(latencies, 50), at(latencies, 95), at(latencies, 99), at(latencies, 100)
	return r, nil
}

// sumUp adds one tenant's part to the receipt and returns its latencies.
func (b *book) sumUp(r *Receipt, gap time.Duration, gapAt time.Time) ([]time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	put := b.acknowledged()
	if b.requests == 0 || put == 0 || b.rows == 0 {
		return nil, fmt.Errorf("%w: tenant %s made %d requests, %d acknowledged writes, and read %d rows", ErrNothingMeasured,
			b.tenant.ID, b.requests, put, b.rows)
	}
	r.Requests += b.requests
	r.Reads += b.reads
	r.Writes += b.writes
	r.RowsRead += b.rows
	r.Failed += b.failed
	r.Unknown += b.unknowns
	r.TurnedAway += b.turnedAway.Load()
	r.ReadMissing += b.missing
	r.ReadForeign += b.foreign
	r.Acknowledged += put
	r.Failures = append(r.Failures, b.failures...)
	sorted := slices.Clone(b.latencies)
	slices.Sort(sorted)
	r.Tenants = append(r.Tenants, TenantReceipt{Tenant: string(b.tenant.ID), Rate: b.tenant.Rate, Requests: b.requests, Failed: b.failed,
		Unknown: b.unknowns, LongestGap: Milliseconds(gap), GapAt: gapAt, P99: at(sorted, 99)})
	return b.latencies, nil
}

// at is the given percentile of sorted durations.
func at(sorted []time.Duration, percent int) Milliseconds {
	if len(sorted) == 0 {
		return 0
	}
	return Milliseconds(sorted[(len(sorted)-1)*percent/100])
}

// Now is how far the traffic has come, for a line of progress.
type Now struct {
	Requests, Writes, Failed, Unknown int64
}

// Now may be called while Run runs.
func (c *Client) Now() (n Now) {
	for _, b := range c.books {
		b.mu.Lock()
		n.Requests += b.requests
		n.Failed += b.failed
		n.Unknown += b.unknowns
		n.Writes += b.writes
		b.mu.Unlock()
	}
	return n
}
