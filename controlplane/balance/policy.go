package balance

import (
	"fmt"
	"time"
)

// Policy is what the fleet's operator wants of placement. [DefaultPolicy] is a good start.
type Policy struct {
	// Headroom is the share of each capacity that stays free: no move and no
	// new tenant may fill a shard beyond 1 − Headroom.
	Headroom float64
	// Tolerance is how far over its even share a shard may be once a plan is
	// carried out: 0.05 allows 1.05 times. On shards of fewer than 20 tenants it is
	// one tenant's part, 0.1 at most.
	Tolerance float64
	// Margin is how much further over a shard has to be before a plan begins to
	// relieve it, so that a fleet near its target is left alone.
	Margin float64
	// Floor is the fill, as a share of the capacity, below which a dimension is not
	// worth moving anybody. A dimension without capacities has no floor.
	Floor Vector
	// Cooldown is how long a tenant that was moved is not moved again for the
	// sake of balance. Drains and broken constraints don't wait for it.
	Cooldown time.Duration
	// Quiet are the times in which no move begins.
	Quiet []Window
	// MaxMoves bounds the moves that run at the same time; 0: no bound.
	MaxMoves int
	// MaxMovesPerShard bounds those that a shard takes part in, at either end; 0: no bound.
	MaxMovesPerShard int
	// MaxBytesPerHour bounds the bytes of moves begun within an hour; 0: no bound.
	MaxBytesPerHour float64
}

// DefaultPolicy keeps a fifth of every shard free, balances to within 5 % and
// begins at 8 %.
func DefaultPolicy() Policy {
	return Policy{
		Headroom:  0.2,
		Tolerance: 0.05,
		Margin:    0.03,
		// A database more or less costs next to nothing until there are very many.
		Floor:            Vector{Bytes: 0.05, Connections: 0.05, Load: 0.05, WAL: 0.05, Databases: 0.25},
		Cooldown:         24 * time.Hour,
		MaxMoves:         4,
		MaxMovesPerShard: 1,
	}
}

// Validate refuses a policy that cannot be kept.
func (p *Policy) Validate() error {
	switch {
	case !(p.Headroom >= 0 && p.Headroom < 1):
		return fmt.Errorf("%w policy: headroom %v: want at least 0 and less than 1", ErrInvalid, p.Headroom)
	case !(p.Tolerance > 0 && p.Tolerance <= 10):
		return fmt.Errorf("%w policy: tolerance %v: want more than 0, 10 at most; nothing is ever exactly even", ErrInvalid, p.Tolerance)
	case !(p.Margin >= 0 && p.Margin <= 10):
		return fmt.Errorf("%w policy: margin %v: want 0 to 10", ErrInvalid, p.Margin)
	case p.Cooldown < 0:
		return fmt.Errorf("%w policy: cool-down %s is negative", ErrInvalid, p.Cooldown)
	case p.MaxMoves < 0 || p.MaxMovesPerShard < 0:
		return fmt.Errorf("%w policy: a number of moves is negative", ErrInvalid)
	case !(p.MaxBytesPerHour >= 0):
		return fmt.Errorf("%w policy: %v bytes an hour", ErrInvalid, p.MaxBytesPerHour)
	}
	for d, floor := range p.Floor {
		if !(floor >= 0 && floor <= 1) {
			return fmt.Errorf("%w policy: floor of %s %v: want 0 to 1", ErrInvalid, Dimension(d), floor) //nolint:gosec // five of them
		}
	}
	for _, w := range p.Quiet {
		if err := w.validate(); err != nil {
			return err
		}
	}
	return always(p.Quiet)
}

// Cooling tells until when the tenant is not moved for the sake of balance, and
// whether now is before that.
func (p *Policy) Cooling(t *Tenant, now time.Time) (until time.Time, cooling bool) {
	if t.Moved.IsZero() {
		return time.Time{}, false
	}
	until = t.Moved.Add(p.Cooldown)
	return until, now.Before(until)
}
