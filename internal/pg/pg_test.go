package pg_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/pg"
	"github.com/freehold-db/freehold/internal/pgtest"
	"github.com/freehold-db/freehold/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func connect(t *testing.T) *pgx.Conn {
	c, err := pgx.Connect(t.Context(), pgtest.Database(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

var nasty = []string{"", "plain", "Mixed Case", `quote"quote`, "quote'quote", `back\slash`, `\'; DROP TABLE x; --`, "ünïcödé", "new\nline", `E'`, "$1", "%"}

// Postgres itself says whether a name or text comes back as it was.
func TestQuoting(t *testing.T) {
	c := connect(t)
	for _, scs := range []string{"on", "off"} {
		_, err := c.Exec(t.Context(), "SET standard_conforming_strings = "+scs)
		require.NoError(t, err)
		for _, s := range nasty {
			quoted, err := pg.Literal(s)
			require.NoError(t, err)
			var got string
			// The simple protocol is how utility statements travel.
			results, err := c.PgConn().Exec(t.Context(), "SELECT "+quoted).ReadAll()
			require.NoError(t, err, quoted)
			got = string(results[0].Rows[0][0])
			require.Equal(t, s, got)
			if s == "" {
				continue
			}
			results, err = c.PgConn().Exec(t.Context(), "SELECT 1 AS "+pg.Ident(s)).ReadAll()
			require.NoError(t, err, s)
			require.Equal(t, s, results[0].FieldDescriptions[0].Name)
		}
	}
	_, err := pg.Literal("a\x00b")
	require.ErrorIs(t, err, pg.ErrNUL)
	_, err = pg.Literal("\xc3")
	require.Error(t, err)
}

func FuzzLiteral(f *testing.F) {
	for _, s := range nasty {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted, err := pg.Literal(s)
		if err != nil {
			return
		}
		// Read it back as Postgres' lexer does: nothing may end the literal early.
		body, escapes := strings.CutPrefix(quoted, " E")
		require.True(t, strings.HasPrefix(body, "'") && strings.HasSuffix(body, "'"))
		body = body[1 : len(body)-1]
		var back strings.Builder
		for i := 0; i < len(body); i++ {
			if body[i] == '\'' || escapes && body[i] == '\\' {
				require.Less(t, i+1, len(body), "a lone %q ends the literal", body[i])
				require.Equal(t, body[i], body[i+1])
				i++
			}
			back.WriteByte(body[i])
		}
		require.Equal(t, s, back.String())
		require.True(t, escapes || !strings.Contains(s, `\`))
	})
}

func TestVerifies(t *testing.T) {
	for _, of := range []func(string) (string, error){pg.ScramVerifier, pg.QuickVerifier} {
		verifier, err := of("a password")
		require.NoError(t, err)
		require.True(t, pg.Verifies(verifier, "a password"))
		for _, password := range []string{"", "a passwor", "A password"} {
			require.False(t, pg.Verifies(verifier, password), password)
		}
		for _, broken := range []string{"", "md5aa", verifier[:len(verifier)-2], strings.Replace(verifier, "$", "$0", 1), "SCRAM-SHA-256$x:y$z", "SCRAM-SHA-256$-1:AA==$z"} {
			require.False(t, pg.Verifies(broken, "a password"), broken)
		}
	}
}

// A role made with our verifier lets its password in, and nothing else.
func TestScramVerifier(t *testing.T) {
	c := connect(t)
	password := pg.NewPassword()
	require.Len(t, password, 32)
	require.NotEqual(t, password, pg.NewPassword())
	verifier, err := pg.ScramVerifier(password)
	require.NoError(t, err)
	quoted, err := pg.Literal(verifier)
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), "CREATE ROLE scram_test LOGIN PASSWORD "+quoted)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = c.Exec(context.Background(), "DROP ROLE scram_test") })
	cfg := c.Config()
	require.NoError(t, err)

	conn, err := pg.Connect(t.Context(), cfg.Host, cfg.Port, cfg.Database, secret.Login{User: "scram_test", Password: password})
	require.NoError(t, err)
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_user WHERE $1::int = 7", 7).Scan(&user))
	require.Equal(t, "scram_test", user)
	require.NoError(t, conn.Close(t.Context()))

	const wrong = "a-wrong-password"
	_, err = pg.Connect(t.Context(), cfg.Host, cfg.Port, cfg.Database, secret.Login{User: "scram_test", Password: wrong})
	require.Equal(t, "28P01", pg.Code(err))
	for _, format := range []string{"%v", "%+v", "%#v"} {
		require.NotContains(t, fmt.Sprintf(format, err), wrong)
	}

	for _, bad := range []string{"", "tab\t", "ünïcödé", "nul\x00"} {
		_, err := pg.ScramVerifier(bad)
		require.Error(t, err)
	}
}

// What a connection is does not depend on the environment.
func TestEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("PGOPTIONS", "-c search_path=elsewhere")
	t.Setenv("PGSSLMODE", "require")
	t.Setenv("PGHOST", "nowhere.example")
	t.Setenv("PGAPPNAME", "other")
	cfg, err := pg.Config("/run/here", 5433, "d", secret.Login{User: "u", Password: "p"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"application_name": "freehold"}, cfg.RuntimeParams)
	require.Nil(t, cfg.TLSConfig)
	require.Empty(t, cfg.Fallbacks)
	require.Equal(t, "/run/here", cfg.Host)
	other, err := pg.Config("h", 1, "e", secret.Login{})
	require.NoError(t, err)
	other.RuntimeParams["x"] = "y"
	require.NotContains(t, cfg.RuntimeParams, "x", "configs share state")
}

func TestConnectIsBounded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := pg.Connect(ctx, "127.0.0.1", 1, "d", secret.Login{User: "u", Password: "hunter2"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	require.Empty(t, pg.Code(err))
}
