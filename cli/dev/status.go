package dev

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/process"
)

// PartStatus is what of one part can be seen from outside.
type PartStatus struct {
	Name    string
	PID     int    // 0: no process
	Address string // host:port
	TLS     bool   // it speaks nothing else
	Err     error  // nil: it serves
}

// checkFor bounds the look at one part.
const checkFor = 5 * time.Second

// Status looks at every part of the fleet that runs in dir, at the end of a
// real request to each. It fails with [ErrNotRunning].
func Status(ctx context.Context, dir string) ([]PartStatus, error) {
	info, err := Read(dir)
	if err != nil {
		return nil, err
	}
	checks := info.checks()
	parts := make([]PartStatus, 0, len(checks))
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, c := range checks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checkFor)
			defer cancel()
			p := PartStatus{Name: name, PID: info.PIDs[name], Address: c.address(), TLS: info.Secure, Err: c.look(ctx)}
			if p.PID != 0 && !process.Alive(p.PID) {
				p.PID, p.Err = 0, errors.Join(errors.New("its process is gone"), p.Err)
			}
			mu.Lock()
			defer mu.Unlock()
			parts = append(parts, p)
		})
	}
	wg.Wait()
	sort.Slice(parts, func(i, j int) bool { return parts[i].Name < parts[j].Name })
	return parts, nil
}

// check is how to see whether a part serves.
type check struct {
	url  string
	look func(ctx context.Context) error
}

func (c check) address() string {
	u, err := url.Parse(c.url)
	if err != nil {
		return ""
	}
	return u.Host
}

func (i Info) checks() map[string]check {
	web := func(url, path string) check { return check{url, i.answers(url + path)} }
	sql := func(dsn string) check { return check{dsn, loginWorks(dsn)} }
	all := map[string]check{
		controlPlanePart: web(i.AdminURL, "/readyz"),
		issuerPart:       web(i.IssuerURL, "/healthz"),
		natsPart:         {i.NATSURL, func(ctx context.Context) error { return dialable(check{url: i.NATSURL}.address())(ctx) }},
		catalogPart:      sql(i.CatalogDSN),
	}
	for n, u := range i.AdminURLs[min(1, len(i.AdminURLs)):] { // the first is there already
		all[fmt.Sprintf("%s-%d", controlPlanePart, n+2)] = web(u, "/readyz")
	}
	for n, u := range i.DataplaneURLs {
		all[nodePrefix+strconv.Itoa(n+1)] = web(u, "/readyz")
	}
	for _, s := range i.Shards {
		all[postgresPrefix+string(s.ID)] = sql(s.PostgresDSN)
		all[bouncerPrefix+string(s.ID)] = sql(s.PgbouncerAdminDSN)
	}
	return all
}

func loginWorks(dsn string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := pgconn.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	}
}
