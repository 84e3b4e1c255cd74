package rest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/rest/query"
)

func FuzzPrefer(f *testing.F) {
	f.Add("return=representation, count=exact,handling=strict, max-affected=10")
	f.Add("timezone=America/New_York,tx=rollback, ,=,x=1")
	f.Add("timezone=../../etc/passwd")
	f.Fuzz(func(t *testing.T, header string) {
		p := parsePreferences([]string{header, "return=minimal"})
		require.NotEmpty(t, p.representation)
		if p.timezone != "" && isZone(p.timezone) {
			require.False(t, strings.ContainsAny(p.timezone, "'\"\\\x00") || strings.Contains(p.timezone, ".."))
		}
	})
}

// Each name that is none costs a look into some files: a header has room for a thousand.
func TestZonesAreBounded(t *testing.T) {
	for name, is := range map[string]bool{
		"UTC": true, "America/New_York": true, "Etc/GMT+5": true,
		"": false, "Local": false, "America//New_York": false, "/UTC": false, "UTC/": false, "America/./New_York": false, "../zoneinfo/UTC": false, "Nowhere": false,
	} {
		require.Equal(t, is, isZone(name), name)
		require.Equal(t, is, isZone(name), "%s, once more", name)
	}
	nowhere := strings.Repeat("timezone=Nowhere,", maxZones-1)
	require.Equal(t, "UTC", parsePreferences([]string{nowhere + "timezone=UTC"}).timezone)
	p := parsePreferences([]string{nowhere + "timezone=Nowhere,timezone=UTC"})
	require.Empty(t, p.timezone)
	require.Len(t, p.unknown, maxZones+1)
}

func FuzzRange(f *testing.F) {
	f.Add("0-9", int64(5), int64(-1))
	f.Add("9223372036854775807-", int64(9223372036854775807), int64(9223372036854775807))
	f.Add("4611686018427387903-4611686018427387903", int64(-9223372036854775808), int64(1))
	f.Fuzz(func(t *testing.T, header string, offset, limit int64) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Range"] = []string{header}
		p, err := page(&query.Scope{Offset: &offset, Limit: &limit}, r)
		if err == nil {
			require.GreaterOrEqual(t, p.Offset, int64(0))
			require.True(t, p.Limit >= 0 && p.Limit <= max(limit, 0), "%+v", p)
		}
	})
}

func FuzzAccept(f *testing.F) {
	f.Add("application/json;q=0.5, text/csv, */*;q=0.1")
	f.Add(`application/vnd.pgrst.plan+json; for="text/csv; q=1"; options=analyze|verbose|;`)
	f.Fuzz(func(_ *testing.T, header string) {
		accepted([]string{header})
		documentType([]string{header})
		media(header)
	})
}
