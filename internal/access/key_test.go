package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	text, k, err := access.NewKey("acme-2", access.RoleEditor, []string{access.PermissionSQL}, time.Time{})
	require.NoError(t, err)
	require.Regexp(t, `^fh_acme-2_[0-9a-f]{12}_[a-z2-7]{52}$`, text)
	require.NotContains(t, k.Hash, text[len(text)-10:])
	tenant, id, err := access.ParseKey(text)
	require.NoError(t, err)
	require.EqualValues(t, "acme-2", tenant)
	require.Equal(t, k.ID, id)
	require.True(t, k.Matches(text))

	other, _, err := access.NewKey("acme-2", access.RoleEditor, nil, time.Time{})
	require.NoError(t, err)
	require.False(t, k.Matches(other))
	require.False(t, k.Matches(strings.Replace(text, "acme-2", "rival", 1)), "the hash binds the tenant")
	require.False(t, (&access.Key{}).Matches(""))
	require.False(t, (&access.Key{Hash: "zz"}).Matches(text))

	doc := &access.Tenant{Keys: []access.Key{k}}
	require.Equal(t, &doc.Keys[0], doc.Key(id))
	require.Nil(t, doc.Key("000000000000"))
	require.Nil(t, (*access.Tenant)(nil).Key(id))

	now := time.Now()
	require.False(t, k.Expired(now))
	k.Expires = now
	require.True(t, k.Expired(now))
	require.False(t, k.Expired(now.Add(-time.Nanosecond)))

	for name, f := range map[string]func() error{
		"tenant":     func() error { _, _, err := access.NewKey("A", "viewer", nil, now); return err },
		"role":       func() error { _, _, err := access.NewKey("a", "Viewer", nil, now); return err },
		"no role":    func() error { _, _, err := access.NewKey("a", "", nil, now); return err },
		"permission": func() error { _, _, err := access.NewKey("a", "viewer", []string{"root"}, now); return err },
	} {
		require.Error(t, f(), name)
	}
}

func FuzzParseKey(f *testing.F) {
	good, _, err := access.NewKey("acme", access.RoleViewer, nil, time.Time{})
	require.NoError(f, err)
	for _, s := range []string{
		good, "", "fh_", "fh_acme", "fh_acme_", "fh__000000000000_", good[:len(good)-1], good + "a", good[:len(good)-1] + "b", strings.ToUpper(good),
		strings.Replace(good, "acme", "ac_me", 1), strings.Replace(good, "fh_", "fh_x_", 1), good + "\n", "\x00" + good,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tenant, id, err := access.ParseKey(text)
		if err != nil {
			require.ErrorIs(t, err, access.ErrNoKey)
			require.Equal(t, access.ErrNoKey.Error(), err.Error(), "nothing of the text")
			return
		}
		secret := text[strings.LastIndexByte(text, '_')+1:]
		require.Equal(t, text, "fh_"+string(tenant)+"_"+id+"_"+secret, "one reading only")
		require.Len(t, secret, 52)
	})
}
