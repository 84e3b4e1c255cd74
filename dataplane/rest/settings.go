package rest

import (
	"strings"

	"github.com/freehold-db/freehold/router"
)

// The settings of a request's transaction. They all end with it, so that the
// next user of a pooled connection sees none of them.
const (
	settingSearchPath = iota
	settingRole
	settingClaims
	settingMethod
	settingPath
	settingHeaders
	settingTimezone // only when preferred
	settingCount
)

var settingsSQL = func() (sql [2][2]string) {
	names := [settingCount]string{"search_path", "role", "request.jwt.claims", "request.method", "request.path", "request.headers", "timezone"}
	for zoned := range 2 {
		var calls []string
		for i, name := range names[:settingTimezone+zoned] {
			calls = append(calls, "pg_catalog.set_config('"+name+"', $"+string(rune('1'+i))+", true)")
		}
		sql[zoned][0] = "SELECT " + strings.Join(calls, ", ")
		sql[zoned][1] = sql[zoned][0] + ", pg_catalog.set_config('transaction_read_only', 'on', true)"
	}
	return sql
}()

// settings is the statement that makes a session the request's, and its parameters.
func (h *Handler) settings(database string, id Identity, req *request, readsOnly bool) (string, [][]byte) {
	role := database + "_ro"
	if id.Access == router.ReadWrite {
		role = database + "_rw"
	}
	claims := []byte(id.Claims)
	if claims == nil {
		claims = []byte("{}")
	}
	params := make([][]byte, settingTimezone, settingCount)
	params[settingSearchPath] = h.searchPath[req.profile]
	params[settingRole] = []byte(role)
	params[settingClaims] = claims
	params[settingMethod] = []byte(req.method)
	params[settingPath] = []byte("/" + req.path)
	params[settingHeaders] = req.headers
	zoned, readOnly := 0, 0
	if req.prefer.timezone != "" {
		zoned = 1
		params = append(params, []byte(req.prefer.timezone))
	}
	if readsOnly {
		readOnly = 1
	}
	return settingsSQL[zoned][readOnly], params
}
