package rest

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freehold-db/freehold/dataplane/rest/plan"
)

// HoistedSettings are hoisted where the configuration says nothing, as by PostgREST.
var HoistedSettings = []string{"statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation"}

// hoist sets one setting for the rest of the transaction.
const hoist = "SELECT pg_catalog.set_config($1, $2, true)"

// hoisted is what a function's own settings (CREATE FUNCTION … SET) make of the
// transaction that it is called in. By itself Postgres applies them when the
// function begins, which is too late for some: a statement's time is running.
type hoisted struct {
	settings  [][][]byte // names and values
	isolation string     // of the transaction; empty: the session's
}

// isolations are the levels as functions name them, and as BEGIN takes them.
var isolations = map[string]string{
	"read uncommitted": "READ UNCOMMITTED", "read committed": "READ COMMITTED", "repeatable read": "REPEATABLE READ", "serializable": "SERIALIZABLE",
}

// hoist finds out what the plan's function, if it calls one, makes of its transaction.
func (h *Handler) hoist(ctx context.Context, id Identity, p *plan.Plan) (up hoisted) {
	if p.Call == nil {
		return up
	}
	for _, s := range p.Call.Function.Settings {
		switch {
		case !slices.Contains(h.opts.Hoisted, s.Name):
		case s.Name == "default_transaction_isolation":
			up.isolation = isolations[strings.ToLower(s.Value)]
		case s.Name == "statement_timeout":
			up.settings = append(up.settings, [][]byte{[]byte(s.Name), bounded(ctx, id, s.Value)})
		default:
			up.settings = append(up.settings, [][]byte{[]byte(s.Name), []byte(s.Value)})
		}
	}
	return up
}

// bounded is a statement's time, but no more than what the tenant's limits and
// the request leave of it, in milliseconds. What it cannot read is no bound.
func bounded(ctx context.Context, id Identity, value string) []byte {
	took := duration(value)
	least := func(d time.Duration) {
		if took == 0 || d < took {
			took = d
		}
	}
	if id.Limits.StatementFor > 0 {
		least(id.Limits.StatementFor)
	}
	if until, ok := ctx.Deadline(); ok {
		least(max(time.Millisecond, time.Until(until)))
	}
	if took == 0 {
		return []byte(value)
	}
	return strconv.AppendInt(nil, max(1, took.Milliseconds()), 10)
}

// units are Postgres' of a time.
var units = map[string]time.Duration{"": time.Millisecond, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "min": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// duration reads a time as Postgres' settings have it; 0 is no bound, or what cannot be read.
func duration(value string) time.Duration {
	value = strings.TrimSpace(value)
	digits := strings.TrimRight(value, "usminhd ")
	n, err := strconv.ParseFloat(digits, 64)
	unit := units[strings.TrimSpace(value[len(digits):])]
	if err != nil || n <= 0 || n > 1e9 {
		return 0
	}
	return time.Duration(n * float64(unit))
}
