package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/controlplane/move"
	"github.com/freehold-db/freehold/internal/issuer"
	"github.com/freehold-db/freehold/internal/ledger"
	"github.com/freehold-db/freehold/internal/sleep"
)

const node = "dataplane-2"

// live lets applications work, and things happen meanwhile.
func (p *play) live(ctx context.Context) error {
	traffic, tenants, rate, err := p.newTraffic()
	if err != nil {
		return err
	}
	if err := traffic.Open(ctx); err != nil {
		return err
	}
	p.show.say(fmt.Sprintf("Applications of %d tenants read and write from now on: %.0f requests a second through 2 nodes", tenants, rate))
	working, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); traffic.Run(working) }()
	windows, err := p.events(ctx, traffic)
	stop()
	<-ended
	if err != nil {
		return err
	}
	for i, w := range windows {
		gap, err := traffic.LongestGap(big, w.from, w.to)
		if err != nil {
			return err
		}
		p.result.Moves[i].ClientPause = ledger.Milliseconds(gap)
	}
	done := p.show.begin("Comparing every database, and what the API shows, with the applications' book")
	if p.result.Ledger, err = traffic.Audit(ctx, ledger.Postgres(p.superuser)); err != nil {
		return err
	}
	done(fmt.Sprintf("%d entries looked for", p.result.Ledger.Databases.Checked+p.result.Ledger.API.Checked))
	t, err := p.admin.Tenant(ctx, big)
	if err != nil {
		return err
	}
	p.result.EndsOn = string(t.Shard)
	return nil
}

func (p *play) newTraffic() (c *ledger.Client, tenants int, rate float64, err error) {
	info := p.fleet.Info()
	secure, err := info.TLSConfig()
	if err != nil {
		return nil, 0, 0, err
	}
	cfg := ledger.Config{Nodes: info.DataplaneURLs, TLS: secure}
	for _, t := range cast {
		if t.rate == 0 {
			continue
		}
		token, err := p.signer.Mint(issuer.Claims{Tenant: t.id, Role: issuer.RoleEditor, Subject: "demo"})
		if err != nil {
			return nil, 0, 0, err
		}
		cfg.Tenants = append(cfg.Tenants, ledger.Tenant{ID: t.id, Token: token, Rate: t.rate * p.opts.traffic})
		rate += t.rate * p.opts.traffic
	}
	c, err = ledger.New(cfg)
	return c, len(cfg.Tenants), rate, err
}

type window struct{ from, to time.Time }

// events is what happens under the traffic; it returns when each move took place.
func (p *play) events(ctx context.Context, traffic *ledger.Client) (windows []window, err error) {
	if err := sleep.For(ctx, breath); err != nil {
		return nil, err
	}
	for i, leg := range [][2]string{{fromShard, toShard}, {toShard, fromShard}} {
		if i == 1 {
			if err := p.nodeAway(ctx); err != nil {
				return nil, err
			}
		}
		w := window{from: time.Now()}
		if err := p.move(ctx, traffic, leg[0], leg[1]); err != nil {
			return nil, err
		}
		w.to = time.Now()
		windows = append(windows, w)
		if err := sleep.For(ctx, breath); err != nil {
			return nil, err
		}
	}
	return windows, nil
}

// move moves the big tenant, and shows how far it is.
func (p *play) move(ctx context.Context, traffic *ledger.Client, from, to string) error {
	done := p.show.begin(fmt.Sprintf("Moving %s (%s) from %s to %s while it is being used", big, megabytes(p.result.BigBytes), from, to))
	began := time.Now()
	op, err := p.admin.MoveTenant(ctx, big, api.MoveTenant{To: to}, client.Change{Reason: "demo"})
	if err != nil {
		return err
	}
	op, err = p.await(ctx, op.ID, func(op api.Operation) {
		if !op.Final() {
			now := traffic.Now()
			p.show.live(fmt.Sprintf("%-12s %3.0f %%%s   %d requests, %d failed", phase(op), op.Progress.Percent, speed(op), now.Requests, now.Failed+now.Unknown))
		}
	})
	if err != nil {
		return err
	}
	var r move.Receipt
	if err := json.Unmarshal(op.Receipt, &r); err != nil {
		return fmt.Errorf("receipt of operation %s: %w", op.ID, err)
	}
	m := Move{Operation: op.ID, From: string(r.From), To: string(r.To), Rows: r.Rows, Bytes: r.Bytes, Seconds: time.Since(began).Seconds(),
		CopyMBPerS: r.CopyMBPerS, Pause: ledger.Milliseconds(float64(r.PauseMS) * float64(time.Millisecond)),
		VerifiedCopy: r.Verification.Copy, VerifiedFinal: r.Verification.Final}
	p.result.Moves = append(p.result.Moves, m)
	done(fmt.Sprintf("%d rows, copied at %.0f MB/s, paused %s", m.Rows, m.CopyMBPerS, m.Pause))
	return nil
}

func phase(op api.Operation) string {
	if op.Progress.Phase != "" {
		return op.Progress.Phase
	}
	return op.Step
}

func speed(op api.Operation) string {
	if op.Progress.BytesPerSecond <= 0 {
		return ""
	}
	return fmt.Sprintf("  %.0f MB/s", op.Progress.BytesPerSecond/1e6)
}

// nodeAway stops a data-plane node and starts it again.
func (p *play) nodeAway(ctx context.Context) error {
	done := p.show.begin("Stopping one of the two data-plane nodes, and starting it again")
	began := time.Now()
	if err := p.fleet.Halt(ctx, node); err != nil {
		return err
	}
	if err := sleep.For(ctx, nodeAwayFor); err != nil {
		return err
	}
	if err := p.fleet.Launch(ctx, node); err != nil {
		return err
	}
	p.result.NodeAway = time.Since(began).Seconds()
	done(fmt.Sprintf("away for %.1f s", p.result.NodeAway))
	return nil
}
