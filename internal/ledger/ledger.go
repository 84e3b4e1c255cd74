// Package ledger is a client that keeps the book. It drives steady traffic of
// several tenants over the REST API through several nodes, writes down every
// write that was acknowledged, checks every row it reads, and at the end holds
// the databases against its book: rows lost, doubled, or of somebody else.
//
// What it does when something fails is what a plain HTTP client does, and no
// more, so that nothing is hidden:
//   - A request goes to the nodes in turn. A node that refuses the connection
//     never got it, so it goes to the next one; that is counted as turned away.
//     When no node takes it, it failed.
//   - Go's transport sends a request again by itself only when a kept-alive
//     connection turns out to be closed before anything was written, or before
//     anything came back of a GET.
//   - Every other error, and every status of 400 and above, is final: a read
//     failed; a write failed if it was refused, and is unknown if the
//     connection broke. What became of unknown ones is looked up at the end.
//
// Requests start by the clock, however long others take, and latencies count
// from when a request was due: a server that stalls cannot slow down the one
// who measures it.
//
// Import law: of this module, ledger imports shardmap only.
package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/freehold-db/freehold/shardmap"
)

// Tenant is one tenant that takes part.
type Tenant struct {
	ID shardmap.TenantID
	// Token is a bearer token of the tenant with the right to write.
	Token string
	// Rate is how many requests per second are sent for it.
	Rate float64
}

// Config of a client. Nodes and Tenants are required.
type Config struct {
	// Nodes are the base URLs of the data-plane nodes.
	Nodes   []string
	Tenants []Tenant
	// TLS says whom https nodes are believed by; nil: the system's roots.
	TLS *tls.Config
	// RequestFor bounds one request; default 30 s.
	RequestFor time.Duration
	// UnderWay bounds one tenant's requests at a time; due ones wait, and their latency counts; default 64.
	UnderWay int
}

// Client drives the traffic. Use it once: Open, Run, then Audit.
type Client struct {
	cfg   Config
	http  *http.Client
	run   string // tells this client's rows from others'
	books []*book
	next  sync.Mutex // of turn: round robin over the nodes
	turn  int

	mu      sync.Mutex
	started time.Time
	ended   time.Time
}

// New checks the configuration.
func New(cfg Config) (*Client, error) {
	if len(cfg.Nodes) == 0 || len(cfg.Tenants) == 0 {
		return nil, errors.New("ledger: no nodes or no tenants given")
	}
	if cfg.RequestFor <= 0 {
		cfg.RequestFor = 30 * time.Second
	}
	if cfg.UnderWay <= 0 {
		cfg.UnderWay = 64
	}
	c := &Client{cfg: cfg, run: uuid.NewString(), http: &http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext, TLSClientConfig: cfg.TLS,
		MaxIdleConnsPerHost: cfg.UnderWay * len(cfg.Tenants), IdleConnTimeout: time.Minute,
	}}}
	seen := map[shardmap.TenantID]bool{}
	for _, t := range cfg.Tenants {
		if t.Rate <= 0 || seen[t.ID] {
			return nil, fmt.Errorf("ledger: tenant %s: given twice, or with a rate of %v", t.ID, t.Rate)
		}
		seen[t.ID] = true
		c.books = append(c.books, &book{tenant: t, entries: map[uuid.UUID]*write{}, activity: map[uuid.UUID]*write{}})
	}
	return c, nil
}

// Open gives each tenant an account of this run. It retries nothing; an error names the tenant.
func (c *Client) Open(ctx context.Context) error {
	for _, b := range c.books {
		var rows []struct {
			ID int64 `json:"id"`
		}
		err := c.call(ctx, b, request{method: http.MethodPost, path: "/rest/v1/accounts?select=id", representation: true,
			body: map[string]any{"owner_tag": b.tenant.ID, "balance": 0}}, &rows)
		if err == nil && len(rows) != 1 {
			err = fmt.Errorf("%d rows came back", len(rows))
		}
		if err != nil {
			return fmt.Errorf("ledger: open an account of tenant %s: %w", b.tenant.ID, err)
		}
		b.account = rows[0].ID
	}
	return nil
}

// Run sends traffic until ctx ends, then waits for what is under way (each
// request is bounded). It returns when the book is closed.
func (c *Client) Run(ctx context.Context) {
	c.mu.Lock()
	c.started = time.Now()
	c.mu.Unlock()
	var all sync.WaitGroup
	for _, b := range c.books {
		all.Go(func() { c.drive(ctx, b) })
	}
	all.Wait()
	c.mu.Lock()
	c.ended = time.Now()
	c.mu.Unlock()
}

// LongestGap is the longest time a tenant had no good answer, of the gaps that
// touch the time between from and to: the pause of a move as its client saw it.
// It fails while the traffic runs, and for a tenant or a time it knows nothing of.
func (c *Client) LongestGap(tenant shardmap.TenantID, from, to time.Time) (time.Duration, error) {
	c.mu.Lock()
	start, end := c.started, c.ended
	c.mu.Unlock()
	b := c.bookOf(tenant)
	if b == nil || end.IsZero() || !from.Before(to) || from.After(end) || to.Before(start) {
		return 0, fmt.Errorf("%w: of tenant %s between %s and %s", ErrNothingMeasured, tenant, from.Format(time.TimeOnly), to.Format(time.TimeOnly))
	}
	gap, _ := b.longestGap(start, end, from, to)
	return gap, nil
}

// drive sends one tenant's requests as they become due.
func (c *Client) drive(ctx context.Context, b *book) {
	var underWay sync.WaitGroup
	defer underWay.Wait()
	slots := make(chan struct{}, c.cfg.UnderWay)
	every := time.Duration(float64(time.Second) / b.tenant.Rate)
	due := time.Now().Add(rand.N(every)) // tenants do not beat in time
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for due := due; ; due = due.Add(every) { // each request has a due of its own
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		underWay.Go(func() {
			defer func() { <-slots }()
			// A request that is under way when the traffic ends is still waited for.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.RequestFor)
			defer cancel()
			c.act(ctx, b, due)
		})
	}
}

// node returns the next node in turn.
func (c *Client) node() int {
	c.next.Lock()
	defer c.next.Unlock()
	c.turn = (c.turn + 1) % len(c.cfg.Nodes)
	return c.turn
}
