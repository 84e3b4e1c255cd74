package sqlhttp

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// What an answer says of its columns counts: a batch without a row can have a hundred thousand.
func TestColumnsAreBounded(t *testing.T) {
	fields := make([]pgproto3.FieldDescription, 100)
	for i := range fields {
		fields[i].Name = []byte(strings.Repeat("\x01", 60))
	}
	for most, fits := range map[int64]bool{1 << 10: false, 1 << 20: true} {
		w := newWriter(&request{statements: make([]statement, 2), batch: true}, 10, most)
		for range leading {
			w.complete([]byte("SELECT 1"))
		}
		for range 2 {
			w.describe(fields)
			w.complete([]byte("SELECT 0"))
		}
		answer, err := w.finish(true)
		require.Equal(t, fits, err == nil, "%v", err)
		require.Equal(t, fits, len(answer) > 0)
		require.LessOrEqual(t, int64(len(w.out)), most)
	}
}
