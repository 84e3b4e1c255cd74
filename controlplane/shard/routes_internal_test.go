package shard

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What was read is what is written again, and nothing that is not ours is taken for an entry.
func FuzzRoutes(f *testing.F) {
	f.Add([]byte("t_0123456789abcdef = host='127.0.0.1' port=5432 auth_user=freehold_bouncer\n; a comment\n"))
	f.Add([]byte("t_0123456789abcdef = host='/var/run/x y' port=1 auth_user=freehold_bouncer"))
	f.Add([]byte("* = host=evil"))
	f.Add([]byte("t_0123456789abcdef = host='a' port=99999 auth_user=freehold_bouncer"))
	f.Add([]byte("%include /etc/passwd"))
	f.Fuzz(func(t *testing.T, text []byte) {
		entries, err := parseRoutes(text)
		if err != nil {
			return
		}
		again, err := parseRoutes(formatRoutes(entries))
		require.NoError(t, err)
		require.Equal(t, entries, again)
	})
}

// The path of a routes file is the caller's, and errors are shown to people:
// they must not show a line of a file that is none.
func TestAnErrorShowsNothingOfTheFile(t *testing.T) {
	_, err := parseRoutes([]byte("root:$6$salt$hash:19000:0:99999:7:::\n"))
	require.ErrorContains(t, err, "line 1")
	require.NotContains(t, err.Error(), "root")
}

func TestHostsThatCanBeWritten(t *testing.T) {
	for _, ok := range []string{"127.0.0.1", "::1", "db.example.com", "/var/run/postgresql"} {
		require.True(t, validHost(ok), ok)
	}
	for _, bad := range []string{"", "a b", "a'b", "a\nb", "a;b", "a=b", `a\b`, "a#b"} {
		require.False(t, validHost(bad), bad)
	}
}

func TestSettingsAreQuotedAsTheyWereStored(t *testing.T) {
	script, err := rolesScript([]role{{Name: "r", Limit: -1, Settings: []string{
		`search_path="$user", public`, "application_name=it's", "my.thing=a=b", "work_mem=4MB"}}}, map[string]bool{"r": true}, 15)
	require.NoError(t, err)
	require.Contains(t, script, `SET "search_path" TO '$user', 'public';`)
	require.Contains(t, script, `SET "application_name" TO 'it''s';`)
	require.Contains(t, script, `SET "my"."thing" TO 'a=b';`)
	require.Contains(t, script, `SET "work_mem" TO '4MB';`)
	md5 := "md5abc"
	_, err = rolesScript([]role{{Name: "r", Verifier: &md5}}, nil, 15)
	require.Error(t, err)
}
