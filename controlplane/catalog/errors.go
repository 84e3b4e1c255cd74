package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// ErrUnavailable: the catalog could not be reached, or dropped the connection
// (outage, failover). The same call may be tried again; whether a COMMIT that
// ended so took effect is unknown until the catalog is read.
var ErrUnavailable = errors.New("catalog is unavailable")

// Classify wraps err in [ErrUnavailable] if it says that the catalog is away,
// and returns any other error as it is. For sibling packages with SQL of their own.
func Classify(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || !away(err) {
		return err
	}
	return unavailable(err)
}

func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func away(err error) bool {
	// What the caller's own context ended says nothing about the catalog.
	if errors.Is(err, context.Canceled) {
		return false
	}
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		switch answer.Code {
		case pgerrcode.AdminShutdown, pgerrcode.CrashShutdown, pgerrcode.CannotConnectNow,
			pgerrcode.TooManyConnections, pgerrcode.ReadOnlySQLTransaction, pgerrcode.IdleInTransactionSessionTimeout:
			return true
		}
		return strings.HasPrefix(answer.Code, "08")
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, puddle.ErrClosedPool) ||
		!errors.Is(err, context.DeadlineExceeded) && errors.As(err, &network)
}

// translate gives the database's refusals their names, once, here.
func translate(err error) error {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return Classify(err)
	}
	switch answer.ConstraintName {
	case "tenants_pkey", "shards_pkey", "databases_pkey":
		return fmt.Errorf("%w: %s", ErrExists, answer.Detail)
	case "databases_shard_fkey", "databases_tenant_fkey", "placements_shard_fkey", "placements_tenant_fkey",
		"shard_capacities_shard_fkey", "tenant_needs_tenant_fkey", "copies_tenant_fkey":
		return fmt.Errorf("%w: %s", ErrNotFound, answer.Detail)
	case "databases_have_room":
		return fmt.Errorf("%w: %s", ErrNoRoom, answer.Message)
	case "databases_in_use", "placements_have_database", "databases_one_home", "databases_one_per_tenant",
		"placements_epoch", "databases_tenant_fits_state", "placements_database_key",
		"soaks_one_per_tenant", "soaks_change", "copies_change":
		return fmt.Errorf("%w: %s", ErrConflict, answer.Message)
	case "erased_stays":
		return fmt.Errorf("%w: %s", ErrErased, answer.Message)
	}
	return Classify(err)
}
