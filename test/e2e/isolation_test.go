package e2e

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/issuer"
)

// pair makes two tenants on one shard; each has one account tagged with its own name.
func pair(t *testing.T, a, b string) {
	t.Helper()
	for _, id := range []string{a, b} {
		shared.Create(t, id, "s1")
		ans := shared.Do(t, http.MethodPost, "/rest/v1/accounts", shared.Token(t, id, "editor"), map[string]any{"owner_tag": id, "balance": 1})
		require.Equal(t, http.StatusCreated, ans.Status, "%s", ans.Body)
	}
}

// TestTokenOpensItsTenantOnly attacks B with A's token by every way in.
func TestTokenOpensItsTenantOnly(t *testing.T) {
	pair(t, "alfa", "bravo")
	alfa, bravo := shared.Token(t, "alfa", "editor"), shared.Token(t, "bravo", "editor")

	seen := func(token string) []string {
		ans := shared.Do(t, http.MethodGet, "/rest/v1/accounts?select=owner_tag", token, nil)
		require.Equal(t, http.StatusOK, ans.Status, "%s", ans.Body)
		var rows []struct {
			OwnerTag string `json:"owner_tag"`
		}
		require.NoError(t, json.Unmarshal(ans.Body, &rows))
		var tags []string
		for _, r := range rows {
			tags = append(tags, r.OwnerTag)
		}
		return tags
	}
	require.Equal(t, []string{"alfa"}, seen(alfa)) // the control: a right token sees its own, and only its own
	require.Equal(t, []string{"bravo"}, seen(bravo))

	part := strings.Split(alfa, ".")
	payload, err := base64.RawURLEncoding.DecodeString(part[1])
	require.NoError(t, err)
	asBravo := base64.RawURLEncoding.EncodeToString([]byte(strings.ReplaceAll(string(payload), `"alfa"`, `"bravo"`)))
	claims := func(change func(jwt.MapClaims)) jwt.MapClaims {
		var c jwt.MapClaims
		require.NoError(t, json.Unmarshal(payload, &c))
		change(c)
		return c
	}
	_, own, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	forged := func(change func(jwt.MapClaims)) string {
		tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims(change))
		var head map[string]any
		raw, err := base64.RawURLEncoding.DecodeString(part[0])
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, &head))
		tok.Header["kid"] = head["kid"]
		s, err := tok.SignedString(own)
		require.NoError(t, err)
		return s
	}
	none, err := jwt.NewWithClaims(jwt.SigningMethodNone, claims(func(c jwt.MapClaims) { c["tenant"] = "bravo" })).SignedString(jwt.UnsafeAllowNoneSignatureType)
	require.NoError(t, err)
	hs := jwt.NewWithClaims(jwt.SigningMethodHS256, claims(func(c jwt.MapClaims) { c["tenant"] = "bravo" }))
	hs256, err := hs.SignedString([]byte(part[0]))
	require.NoError(t, err)
	other, err := issuer.Start(t.Context(), t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Stop(context.Background()) })
	foreign, err := other.Mint(issuer.Claims{Tenant: "bravo", Role: "editor"})
	require.NoError(t, err)

	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, c := range map[string]struct {
		token string
		path  string
		edit  func(*http.Request)
		want  int
	}{
		"header names another":       {alfa, "/rest/v1/accounts", header("X-Tenant-ID", "bravo"), http.StatusForbidden},
		"two headers":                {alfa, "/rest/v1/accounts", func(r *http.Request) { r.Header["X-Tenant-Id"] = []string{"alfa", "bravo"} }, 0},
		"path climbs":                {alfa, "/rest/v1/../../bravo/rest/v1/accounts", nil, 0},
		"table names a database":     {alfa, "/rest/v1/bravo.accounts", nil, http.StatusNotFound},
		"another schema":             {alfa, "/rest/v1/pg_catalog.pg_authid", nil, http.StatusNotFound},
		"schema by profile":          {alfa, "/rest/v1/pg_authid", header("Accept-Profile", "pg_catalog"), 0},
		"payload changed":            {part[0] + "." + asBravo + "." + part[2], "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"signed by another key":      {forged(func(c jwt.MapClaims) { c["tenant"] = "bravo" }), "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"algorithm none":             {none, "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"algorithm confusion":        {hs256, "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"expired":                    {forged(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Hour).Unix() }), "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"another issuer":             {foreign, "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"no token":                   {"", "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"no token but a header":      {"", "/rest/v1/accounts", header("X-Tenant-ID", "bravo"), http.StatusUnauthorized},
		"the admin token":            {shared.Info.AdminToken, "/rest/v1/accounts", nil, http.StatusUnauthorized},
		"SQL in a filter":            {alfa, "/rest/v1/accounts?owner_tag=eq.x'%20OR%20'1'='1", nil, http.StatusOK},
		"dblink-like function":       {alfa, "/rest/v1/accounts?select=dblink(1)", nil, http.StatusBadRequest},
		"right header, right tenant": {alfa, "/rest/v1/accounts", header("X-Tenant-ID", "alfa"), http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			var edits []func(*http.Request)
			if c.edit != nil {
				edits = append(edits, c.edit)
			}
			ans := shared.Do(t, http.MethodGet, c.path, c.token, nil, edits...)
			require.NotContains(t, string(ans.Body), `"owner_tag":"bravo"`)
			if c.want != 0 {
				require.Equal(t, c.want, ans.Status, "%s", ans.Body)
			} else {
				require.GreaterOrEqual(t, ans.Status, 400, "%s", ans.Body)
			}
		})
	}

	t.Run("a viewer does not write", func(t *testing.T) {
		ans := shared.Do(t, http.MethodPost, "/rest/v1/accounts", shared.Token(t, "alfa", "viewer"), map[string]any{"owner_tag": "alfa"})
		require.Equal(t, http.StatusForbidden, ans.Status, "%s", ans.Body)
		require.Equal(t, []string{"alfa"}, seen(alfa))
	})
	t.Run("a token of a tenant that is not", func(t *testing.T) {
		ans := shared.Do(t, http.MethodGet, "/rest/v1/accounts", shared.Token(t, "nobody", "editor"), nil)
		require.Equal(t, http.StatusNotFound, ans.Status, "%s", ans.Body)
	})
}

// TestLoginOpensItsDatabaseOnly takes a tenant's own login to every other database of its server.
func TestLoginOpensItsDatabaseOnly(t *testing.T) {
	pair(t, "carla", "delta")
	victim, err := shared.Admin.Tenant(t.Context(), "delta")
	require.NoError(t, err)
	secure, err := shared.Info.TLSConfig()
	require.NoError(t, err)
	var refusals sync.WaitGroup
	defer refusals.Wait()
	for _, as := range []string{"owner", "rw", "ro"} {
		login, err := shared.Admin.GrantAccess(t.Context(), "carla", api.GrantAccess{As: as}, "test")
		require.NoError(t, err)
		direct := func(database string, at api.Endpoint) error {
			cfg, err := pgx.ParseConfig("")
			require.NoError(t, err)
			cfg.Host, cfg.Port, cfg.User, cfg.Password, cfg.Database = at.Host, at.Port, login.User, login.Password, database
			cfg.Fallbacks, cfg.TLSConfig, cfg.DefaultQueryExecMode = nil, nil, pgx.QueryExecModeExec
			if secure != nil {
				cfg.TLSConfig = secure.Clone()
				cfg.TLSConfig.ServerName = at.Host
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			conn, err := pgx.ConnectConfig(ctx, cfg)
			if err != nil {
				return err
			}
			defer conn.Close(ctx) //nolint:errcheck // done with it
			var one int
			return conn.QueryRow(ctx, "select 1").Scan(&one)
		}
		for _, at := range []api.Endpoint{login.Postgres, login.Bouncer} {
			require.NoError(t, direct(login.Database, at), "the control: its own database opens")
			for _, database := range []string{victim.Database, "postgres", "template1", "freehold_base", "freehold_app"} {
				refusals.Go(func() { // PgBouncer takes seconds for some
					assert.Error(t, direct(database, at), "%s of carla opened %s at port %d", as, database, at.Port)
				})
			}
		}
	}
	refusals.Wait()
}
