package main

import (
	"context"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/shardmap"
)

// calm is how long the traffic runs by itself before it is disturbed.
const calm = 5 * time.Second

// pause moves a tenant back and forth under its application's traffic and
// reports the longest time without a good answer around each move.
func (b *bench) pause(ctx context.Context, f *fleet) error {
	const tenant shardmap.TenantID = "busy"
	at := "s1"
	if err := f.create(ctx, tenant, at); err != nil {
		return err
	}
	app, err := f.traffic(ctx, tenant)
	if err != nil {
		return err
	}
	defer app.close()
	if err := pass(ctx, calm); err != nil {
		return err
	}
	type window struct{ from, to time.Time }
	var windows []window
	var inside []float64
	attempts := 0
	for range b.moves {
		w := window{from: time.Now()}
		receipt, err := f.move(ctx, tenant, other(at))
		if err != nil {
			return err
		}
		w.to, at = time.Now(), other(at)
		windows, inside = append(windows, w), append(inside, float64(receipt.PauseMS))
		attempts += len(receipt.Attempts)
		say(fmt.Sprintf("move: %v; cutover: %v", receipt.Phases, receipt.Attempts[len(receipt.Attempts)-1].Phases))
	}
	book, err := app.audit(ctx)
	if err != nil {
		return err
	}
	var gaps []float64
	for _, w := range windows {
		gap, err := app.LongestGap(tenant, w.from, w.to)
		if err != nil {
			return err
		}
		gaps = append(gaps, millis(gap))
	}
	r := &b.report
	r.title(fmt.Sprintf("Pause of %d moves under %.0f requests a second, as the application saw it", b.moves, float64(book.Requests)/book.Seconds))
	r.plain("longest time without an answer, median", figure(median(gaps), "ms"), "measured inside: "+figure(median(inside), "ms"))
	r.atMost("  99th percentile", "ms", percentile(gaps, 99), 50, "inside: "+figure(percentile(inside, 99), "ms"))
	r.atMost("  worst", "ms", percentile(gaps, 100), 100, fmt.Sprintf("%d attempts for %d moves", attempts, b.moves))
	r.atMost("requests failed or of unknown outcome", "", float64(book.Failed+book.Unknown), 0, fmt.Sprintf("of %d", book.Requests))
	wrong := book.Databases.Lost + book.API.Lost + book.ReadMissing + book.Databases.Doubled + book.API.Doubled + book.Databases.Ghosts + book.API.Ghosts
	r.atMost("acknowledged writes lost or doubled", "", float64(wrong), 0, fmt.Sprintf("of %d", book.Acknowledged))
	return nil
}
