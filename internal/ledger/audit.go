package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/shardmap"
)

// auditPage is how many rows an audit over the API asks for at a time.
const auditPage = 1000

// Scope says which rows of a tenant an audit is about.
type Scope struct {
	Tenant  shardmap.TenantID
	Account int64
	// What marks the activity of the run.
	What string
}

// Found is what an audit found in one place.
type Found struct {
	// Entries and Activity are the rows of this run and how often each is there.
	Entries  map[uuid.UUID]int
	Activity map[uuid.UUID]int
	// Balance of the account; Accounts is how often it is there.
	Balance  int64
	Accounts int
	// Foreign counts rows, of this run or not, that carry another tenant's tag.
	Foreign int64
}

// Source looks into one place.
type Source func(context.Context, Scope) (Found, error)

// Postgres looks straight into the database that open connects to: the
// tenant's, as somebody who may read all of it.
func Postgres(open func(context.Context, shardmap.TenantID) (*pgx.Conn, error)) Source {
	return func(ctx context.Context, s Scope) (f Found, err error) {
		conn, err := open(ctx, s.Tenant)
		if err != nil {
			return Found{}, err
		}
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it only read
		// One snapshot for all of it.
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return Found{}, err
		}
		defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only read
		if f.Entries, err = tally(ctx, tx, `SELECT id FROM public.entries WHERE account_id = $1`, s.Account); err != nil {
			return Found{}, err
		}
		if f.Activity, err = tally(ctx, tx, `SELECT (detail->>'id')::uuid FROM public.activity WHERE what = $1`, s.What); err != nil {
			return Found{}, err
		}
		err = tx.QueryRow(ctx, `SELECT count(*)::int, coalesce(max(balance), 0)::bigint FROM public.accounts WHERE id = $1 AND owner_tag = $2`,
			s.Account, string(s.Tenant)).Scan(&f.Accounts, &f.Balance)
		if err != nil {
			return Found{}, err
		}
		return f, tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM public.entries WHERE tenant <> $1)
			+ (SELECT count(*) FROM public.accounts WHERE owner_tag <> $1)
			+ (SELECT count(*) FROM public.activity WHERE what LIKE 'ledger %' AND detail->>'tenant' <> $1)`, string(s.Tenant)).Scan(&f.Foreign)
	}
}

func tally(ctx context.Context, tx pgx.Tx, sql string, arg any) (map[uuid.UUID]int, error) {
	rows, err := tx.Query(ctx, sql, arg)
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
	if err != nil {
		return nil, err
	}
	return count(ids), nil
}

func count[T ~[16]byte](ids []T) map[uuid.UUID]int {
	m := make(map[uuid.UUID]int, len(ids))
	for _, id := range ids {
		m[uuid.UUID(id)]++
	}
	return m
}

// API looks at what the tenant itself sees over the REST API.
func (c *Client) API() Source {
	return func(ctx context.Context, s Scope) (f Found, err error) {
		b := c.bookOf(s.Tenant)
		if b == nil {
			return Found{}, fmt.Errorf("ledger: tenant %s takes no part", s.Tenant)
		}
		if f.Entries, err = c.entries(ctx, b); err != nil {
			return Found{}, err
		}
		if f.Activity, err = c.activity(ctx, b, s.What); err != nil {
			return Found{}, err
		}
		var accounts []struct {
			Balance float64 `json:"balance"`
		}
		if err := c.get(ctx, b, fmt.Sprintf("accounts?select=balance&id=eq.%d&owner_tag=eq.%s", s.Account, s.Tenant), &accounts); err != nil {
			return Found{}, err
		}
		if f.Accounts = len(accounts); f.Accounts > 0 {
			f.Balance = int64(accounts[0].Balance)
		}
		for _, path := range []string{"entries?select=id&tenant=neq.", "accounts?select=id&owner_tag=neq."} {
			var foreign []struct{}
			if err := c.get(ctx, b, path+string(s.Tenant)+"&limit=1000", &foreign); err != nil {
				return Found{}, err
			}
			f.Foreign += int64(len(foreign))
		}
		return f, nil
	}
}

func (c *Client) get(ctx context.Context, b *book, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestFor)
	defer cancel()
	return c.call(ctx, b, request{method: http.MethodGet, path: "/rest/v1/" + path}, out)
}

func (c *Client) entries(ctx context.Context, b *book) (map[uuid.UUID]int, error) {
	var ids []uuid.UUID
	for after := uuid.Nil; ; {
		var rows []row
		if err := c.get(ctx, b, fmt.Sprintf("entries?select=id&account_id=eq.%d&id=gt.%s&order=id&limit=%d", b.account, after, auditPage), &rows); err != nil {
			return nil, err
		}
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		if len(rows) < auditPage {
			return count(ids), nil
		}
		after = rows[len(rows)-1].ID
	}
}

// activity has no key to page by. Ordered by all of a row, rows that tie are
// the same, so that pages by offset neither skip nor repeat any.
func (c *Client) activity(ctx context.Context, b *book, what string) (map[uuid.UUID]int, error) {
	var ids []uuid.UUID
	for offset := 0; ; offset += auditPage {
		var rows []struct {
			Detail row `json:"detail"`
		}
		if err := c.get(ctx, b, fmt.Sprintf("activity?select=detail&what=eq.%s&order=at,detail&limit=%d&offset=%d",
			url.QueryEscape(what), auditPage, offset), &rows); err != nil {
			return nil, err
		}
		for _, r := range rows {
			ids = append(ids, r.Detail.ID)
		}
		if len(rows) < auditPage {
			return count(ids), nil
		}
	}
}

func (c *Client) bookOf(tenant shardmap.TenantID) *book {
	for _, b := range c.books {
		if b.tenant.ID == tenant {
			return b
		}
	}
	return nil
}

// Tally is what a place has too little or too much of, against the book.
type Tally struct {
	// Lost: acknowledged writes that are not there (a delete's row that still is counts too).
	Lost int64 `json:"lost"`
	// Doubled: writes that were done more than once.
	Doubled int64 `json:"doubled"`
	// Ghosts: writes that were refused and are there all the same, or that nobody made.
	Ghosts int64 `json:"ghosts"`
	// Foreign: rows of another tenant.
	Foreign int64 `json:"foreign"`
	// UnknownDone: of the writes whose outcome was unknown, those that turned out done.
	UnknownDone int64 `json:"unknown_done"`
	// Checked is how many writes of the book were looked for.
	Checked int64 `json:"checked"`
}

func (t *Tally) add(o Tally) {
	t.Lost += o.Lost
	t.Doubled += o.Doubled
	t.Ghosts += o.Ghosts
	t.Foreign += o.Foreign
	t.UnknownDone += o.UnknownDone
	t.Checked += o.Checked
}

// compare holds what was found against the book.
func (b *book) compare(f Found) Tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := Tally{Foreign: f.Foreign}
	b.compareRows(&t, b.entries, f.Entries)
	b.compareRows(&t, b.activity, f.Activity)
	if t.Checked++; f.Accounts == 0 || f.Balance < b.balanceAck {
		t.Lost++
	}
	if f.Accounts > 1 {
		t.Doubled++
	}
	if f.Balance > b.balanceTry {
		t.Ghosts++
	}
	return t
}

func (b *book) compareRows(t *Tally, book map[uuid.UUID]*write, found map[uuid.UUID]int) {
	for id, w := range book {
		n := found[id]
		t.Checked++
		if n > 1 || w.doubled {
			t.Doubled++
		}
		switch {
		case w.deleting && w.del == acked:
			if n > 0 {
				t.Lost++ // the delete was
			}
		case w.deleting && w.del != refused:
			// Either is right; which of the two, nobody was told.
		case w.put == acked && n == 0:
			t.Lost++
		case w.put == refused && n > 0:
			t.Ghosts++
		case (w.put == unknown || w.put == sent) && n > 0 && !w.doubled:
			t.UnknownDone++
		}
	}
	for id := range found {
		if _, ok := book[id]; !ok {
			t.Ghosts++
		}
	}
}

// ErrNothingMeasured is returned instead of a receipt over nothing.
var ErrNothingMeasured = errors.New("ledger: nothing was measured")
