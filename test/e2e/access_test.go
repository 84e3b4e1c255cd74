package e2e

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
)

// TestKeysAndRolesOfATenant makes a role and keys by the admin API, and uses
// them as applications do: the role by a token and by a key over REST, a key as
// the password of a connection string over SQL.
func TestKeysAndRolesOfATenant(t *testing.T) {
	shared.Create(t, "echo", "s1")
	role, err := shared.Admin.CreateRole(t.Context(), "echo", api.CreateRole{Name: "auditor"}, client.Change{})
	require.NoError(t, err)
	db, err := shared.TenantPostgres(t.Context(), "echo")
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	_, err = db.Exec(t.Context(), "GRANT USAGE ON SCHEMA public TO "+pgx.Identifier{role.DatabaseRole}.Sanitize()+"; GRANT SELECT (owner_tag) ON accounts TO "+pgx.Identifier{role.DatabaseRole}.Sanitize())
	require.NoError(t, err)
	ans := shared.Do(t, http.MethodPost, "/rest/v1/accounts", shared.Token(t, "echo", "editor"), map[string]any{"owner_tag": "echo", "balance": 7})
	require.Equal(t, http.StatusCreated, ans.Status, "%s", ans.Body)

	key := func(role string, permissions ...string) string {
		k, err := shared.Admin.CreateKey(t.Context(), "echo", api.CreateKey{Role: role, Permissions: permissions}, "test")
		require.NoError(t, err)
		return k.Text
	}
	auditor, reader := key("auditor"), key("viewer", "sql")
	require.Eventually(t, func() bool { // the node hears of role and keys
		return shared.Do(t, http.MethodGet, "/rest/v1/accounts?select=owner_tag", auditor, nil).Status == http.StatusOK
	}, time.Minute, 50*time.Millisecond)
	for name, credential := range map[string]string{"key": auditor, "token": shared.Token(t, "echo", "auditor")} {
		ans := shared.Do(t, http.MethodGet, "/rest/v1/accounts?select=owner_tag", credential, nil)
		require.Equal(t, http.StatusOK, ans.Status, "%s: %s", name, ans.Body)
		require.JSONEq(t, `[{"owner_tag":"echo"}]`, string(ans.Body), name)
		for path, method := range map[string]string{"/rest/v1/accounts?select=balance": http.MethodGet, "/rest/v1/accounts?owner_tag=eq.echo": http.MethodDelete} {
			ans := shared.Do(t, method, path, credential, nil)
			require.Equal(t, http.StatusForbidden, ans.Status, "%s: the role was granted one column: %s", name, ans.Body)
		}
	}

	// The connection string of a driver for SQL over HTTP, with nothing else that says who asks.
	sql := func(tenant, password string) int {
		c := (&url.URL{Scheme: "postgresql", User: url.UserPassword("api", password), Host: "localhost", Path: "/" + tenant}).String()
		ans := shared.Do(t, http.MethodPost, "/sql", "", map[string]any{"query": "SELECT balance FROM accounts WHERE owner_tag = $1", "params": []string{"echo"}},
			func(r *http.Request) { r.Header.Set("Neon-Connection-String", c) })
		if ans.Status == http.StatusOK {
			require.Contains(t, string(ans.Body), "7")
		}
		return ans.Status
	}
	require.Eventually(t, func() bool { return sql("echo", reader) == http.StatusOK }, time.Minute, 50*time.Millisecond)
	require.Equal(t, http.StatusForbidden, sql("echo", auditor), "it has no permission for SQL")
	require.Equal(t, http.StatusForbidden, sql("alfa", reader), "it names another tenant")
	require.Equal(t, http.StatusUnauthorized, sql("echo", reader[:len(reader)-1]+"a"+"b"), "it is no key")
	require.Equal(t, http.StatusUnauthorized, sql("echo", "secret"))
}
