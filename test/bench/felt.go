package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/shardmap"
)

// felt reports what the everyday tenant's application notices of the tenant's move until its cutover.
func (b *bench) felt(ctx context.Context, f *fleet) error {
	const tenant shardmap.TenantID = "served"
	if err := f.fill(ctx, large(tenant, 1)); err != nil {
		return err
	}
	app, err := f.traffic(ctx, tenant)
	if err != nil {
		return err
	}
	defer app.close()
	type felt struct{ quiet, during, rates []float64 }
	at, paces := "s1", map[string]*felt{api.PaceConsiderate: {}, api.PaceFull: {}}
	for range b.rounds {
		for _, pace := range []string{api.PaceConsiderate, api.PaceFull} {
			began := time.Now()
			if err := pass(ctx, calm); err != nil {
				return err
			}
			left := time.Now()
			receipt, err := f.moveAt(ctx, tenant, other(at), pace)
			if err != nil {
				return err
			}
			at = other(at)
			cutover := receipt.Attempts[0].At
			q, err := app.Latency(tenant, began, left, 99)
			if err != nil {
				return err
			}
			d, err := app.Latency(tenant, left, cutover, 99)
			if err != nil {
				return err
			}
			of := paces[pace]
			of.quiet, of.during, of.rates = append(of.quiet, millis(q)), append(of.during, millis(d)), append(of.rates, receipt.CopyMBPerS)
			say(fmt.Sprintf("%s: 99th percentile %.1f ms, before the move %.1f; %.1f MB/s; %v; median/95th of each quarter of a second: %s",
				pace, millis(d), millis(q), receipt.CopyMBPerS, receipt.Phases, app.line(tenant, left, cutover)))
		}
	}
	book, err := app.audit(ctx)
	if err != nil {
		return err
	}
	r := &b.report
	r.title(fmt.Sprintf("Moving it under its own %.0f requests a second, %d rounds in turns", float64(book.Requests)/book.Seconds, b.rounds))
	minding, full := paces[api.PaceConsiderate], paces[api.PaceFull]
	r.atMost("tenant's 99th percentile until the cutover", "×", median(minding.during)/median(minding.quiet), 2,
		fmt.Sprintf("%.1f ms, before the move %.1f", median(minding.during), median(minding.quiet)))
	r.plain("  copy", figure(median(minding.rates), "MB/s"), "")
	r.plain("  with --pace full", figure(median(full.during)/median(full.quiet), "×"), fmt.Sprintf("%.1f ms, before the move %.1f", median(full.during), median(full.quiet)))
	r.plain("  copy with --pace full", figure(median(full.rates), "MB/s"), "")
	r.atMost("requests failed or of unknown outcome", "", float64(book.Failed+book.Unknown), 0, fmt.Sprintf("of %d", book.Requests))
	return nil
}

// line is the median and the 95th percentile of each quarter of a second, in milliseconds.
func (t *traffic) line(tenant shardmap.TenantID, from, to time.Time) string {
	const step = time.Second / 4
	var out []string
	for ; from.Before(to); from = from.Add(step) {
		mid, err := t.Latency(tenant, from, from.Add(step), 50)
		if err != nil {
			out = append(out, "-")
			continue
		}
		high, _ := t.Latency(tenant, from, from.Add(step), 95) // it was measured
		out = append(out, fmt.Sprintf("%.1f/%.1f", millis(mid), millis(high)))
	}
	return strings.Join(out, " ")
}
