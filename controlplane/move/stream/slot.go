package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/sleep"
)

// closeFor bounds the goodbye to a server.
const closeFor = 2 * time.Second

// Slot is a fresh replication slot with the snapshot of the moment from which
// it carries changes. The snapshot can be used until Release.
type Slot struct {
	conn     *pgconn.PgConn
	Snapshot string
	// LSN from which on changes are in the stream.
	LSN string
}

// CreateSlot makes the slot over a replication connection of its own that cfg
// describes. It waits, as long as ctx allows, for every writing transaction of
// the server that is open now. A slot of that name is dropped before by the
// caller ([DropSlot]).
func CreateSlot(ctx context.Context, cfg *pgx.ConnConfig, name string) (*Slot, error) {
	cfg = cfg.Copy()
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, &cfg.Config)
	if err != nil {
		return nil, fmt.Errorf("replication connection: %w", err)
	}
	s := &Slot{conn: conn}
	results, err := conn.Exec(ctx, "CREATE_REPLICATION_SLOT "+pg.Ident(name)+" LOGICAL pgoutput (SNAPSHOT 'export')").ReadAll()
	if err != nil {
		s.Release()
		return nil, fmt.Errorf("create slot: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 3 {
		s.Release()
		return nil, errors.New("create slot: unexpected answer of the server")
	}
	row := results[0].Rows[0]
	s.LSN, s.Snapshot = string(row[1]), string(row[2])
	return s, nil
}

// Release gives the snapshot up. The slot stays. Releasing twice is no error.
func (s *Slot) Release() {
	ctx, cancel := context.WithTimeout(context.Background(), closeFor)
	defer cancel()
	_ = s.conn.Close(ctx) // the server notices either way
}

// DropSlot drops the slot and ends the walsender that uses it. conn is an
// admin connection to any database of the source's server. No slot is no error.
func DropSlot(ctx context.Context, conn *pgx.Conn, name string) error {
	for {
		var active bool
		err := conn.QueryRow(ctx, `SELECT active_pid IS NOT NULL AND pg_catalog.pg_terminate_backend(active_pid)
			FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, name).Scan(&active)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("drop slot: %w", err)
		}
		if !active {
			_, err = conn.Exec(ctx, "SELECT pg_catalog.pg_drop_replication_slot($1)", name)
			switch pg.Code(err) {
			case "":
				if err != nil {
					return fmt.Errorf("drop slot: %w", err)
				}
				return nil
			case pgerrcode.UndefinedObject:
				return nil
			case pgerrcode.ObjectInUse: // taken up between the two statements
			default:
				return fmt.Errorf("drop slot: %w", err)
			}
		}
		if err := sleep.For(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("drop slot: it stays in use: %w", err)
		}
	}
}
