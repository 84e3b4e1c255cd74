package tenantdb_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/secret"
	"github.com/freehold-db/freehold/internal/tenantdb"
)

const x = "t_0123456789abcdef"

var all = []tenantdb.Login{tenantdb.REST, tenantdb.Owner, tenantdb.SQLWrite, tenantdb.SQLRead}

func TestLoginsFollowFromOneSecret(t *testing.T) {
	doc := secret.Login{User: x + "_auth_a", Password: "some password of the usual size", Generation: 3}
	seen := map[string]bool{}
	for _, l := range all {
		got, err := l.From(doc, x)
		require.NoError(t, err)
		require.Equal(t, l.User(x), got.User)
		require.EqualValues(t, 3, got.Generation)
		require.False(t, seen[got.Password], "two logins with one password")
		seen[got.Password] = true
		again, err := l.From(doc, x)
		require.NoError(t, err)
		require.Equal(t, got, again)
		if l != tenantdb.REST {
			require.Len(t, got.Password, 32)
		}
	}
	// The derivation must never change: the verifiers on the shards are made from it.
	own, err := tenantdb.Owner.From(doc, x)
	require.NoError(t, err)
	require.Equal(t, "FSL1RmnJqCIv75uNmVfz82hUwklBDtiS", own.Password)

	next := doc
	next.User = x + "_auth_b"
	b, err := tenantdb.SQLRead.From(next, x)
	require.NoError(t, err)
	require.Equal(t, x+"_sql_ro_b", b.User)
	turn, err := tenantdb.TurnOf(next, x)
	require.NoError(t, err)
	require.Equal(t, tenantdb.SecondTurn, turn)
	require.Equal(t, tenantdb.FirstTurn, turn.Other())
	require.Equal(t, tenantdb.SecondTurn, turn.Other().Other())
	require.Equal(t, b.User, tenantdb.SQLRead.UserAt(x, turn))

	for _, user := range []string{"", x, x + "_auth_", x + "_auth_c", x + "_own_a", "t_fedcba9876543210_auth_a"} {
		_, err := tenantdb.Owner.From(secret.Login{User: user, Password: "p"}, x)
		require.ErrorIs(t, err, tenantdb.ErrDocument, user)
	}
}

func TestRolesAndLogins(t *testing.T) {
	for _, c := range []struct {
		access, role string
		by           tenantdb.Login
	}{
		{access.RoleViewer, x + "_ro", tenantdb.REST},
		{access.RoleEditor, x + "_rw", tenantdb.REST},
		{access.RoleOwner, x + "_owner", tenantdb.Owner},
		{"analyst", x + "_r_analyst", tenantdb.REST},
	} {
		role, by := tenantdb.ForREST(x, c.access)
		require.Equal(t, c.role, role)
		require.Equal(t, c.by, by)
	}
	for role, want := range map[string]tenantdb.Login{access.RoleViewer: tenantdb.SQLRead, access.RoleEditor: tenantdb.SQLWrite, access.RoleOwner: tenantdb.Owner} {
		got, err := tenantdb.ForSQL(role)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.NotEqual(t, tenantdb.REST, got, "SQL of others never runs where SET ROLE leads to many roles")
		require.Len(t, got.Become(x), 1)
	}
	_, err := tenantdb.ForSQL("analyst")
	require.ErrorIs(t, err, tenantdb.ErrNoSQL)
}

func TestPatternOfRoles(t *testing.T) {
	pattern := regexp.MustCompile("^" + x + tenantdb.RolePattern + "$")
	for _, name := range []string{x, x + "_owner", x + "_rw", x + "_ro", x + "_r_analyst", x + "_tmp_0011aaff", x + "_sql_ro_b"} {
		require.True(t, pattern.MatchString(name), name)
	}
	for _, l := range all {
		require.True(t, pattern.MatchString(l.User(x)))
	}
	for _, name := range []string{x + "_", x + "_sql_a", x + "_auth_c", x + "_r_", x + "_r_A", x + "0", x + "_ownera"} {
		require.False(t, pattern.MatchString(name), name)
	}
}
