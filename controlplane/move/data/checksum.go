package data

import (
	"context"
	"fmt"
	"math/big"

	"github.com/jackc/pgx/v5"

	"github.com/freehold-db/freehold/controlplane/move/survey"
)

// Sum is a table's contents in two numbers, whatever the order of its rows.
// Rows that are there twice count twice.
type Sum struct {
	Rows int64
	Hash *big.Int // sum of the rows' 64-bit hashes
}

// Equal tells whether both stand for the same rows.
func (s Sum) Equal(o Sum) bool { return s.Rows == o.Rows && s.Hash.Cmp(o.Hash) == 0 }

func (s Sum) String() string { return fmt.Sprintf("%d rows, hash %s", s.Rows, s.Hash) }

func (s *Sum) add(o Sum) {
	s.Rows += o.Rows
	if s.Hash == nil {
		s.Hash = new(big.Int)
	}
	s.Hash.Add(s.Hash, o.Hash)
}

// settings fix how values are put into text, on both sides alike. Rows are put
// into text by record_out, never by a cast, which somebody might have defined.
const settings = "SET extra_float_digits = 1; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; " +
	"SET bytea_output = 'hex'; SET xmloption = 'content'; SET lc_monetary = 'C'; SET max_parallel_workers_per_gather = 0; SET search_path = ''"

const (
	sumText  = `SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.hashtextextended(pg_catalog.textin(pg_catalog.record_out(t.*)), 0)), 0)::pg_catalog.text FROM ONLY `
	sumValue = `SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.hash_record_extended(t.*, 0)), 0)::pg_catalog.text FROM ONLY `
)

// checksum reads one chunk. byValue takes a third of the time where the
// table's types allow it; as text even 1.0 and 1.00 differ.
func checksum(ctx context.Context, conn *pgx.Conn, t survey.Table, c chunk, byValue bool) (Sum, error) {
	sumSQL := sumText
	if byValue && t.Hashable {
		sumSQL = sumValue
	}
	s := Sum{Hash: new(big.Int)}
	var hash string
	err := conn.QueryRow(ctx, sumSQL+t.Ident()+" AS t"+c.where(), pgx.QueryExecModeSimpleProtocol).Scan(&s.Rows, &hash)
	if err != nil {
		return s, fmt.Errorf("checksum of %s: %w", t.Ident(), err)
	}
	if _, ok := s.Hash.SetString(hash, 10); !ok {
		return s, fmt.Errorf("checksum of %s: not a number: %q", t.Ident(), hash)
	}
	return s, nil
}
