package data

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// Fixed has conn put values into text in one way, whoever asks: what [Whole]
// finds is then comparable between servers.
func Fixed(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.PgConn().Exec(ctx, settings).ReadAll(); err != nil {
		return fmt.Errorf("settings for checksums: %w", err)
	}
	return nil
}

// Whole reads all of a table, by its rows' text: what it finds depends on no
// number that a server gave to a type. conn is [Fixed].
func Whole(ctx context.Context, conn *pgx.Conn, t survey.Table) (Sum, error) {
	return checksum(ctx, conn, t, chunk{}, false)
}
