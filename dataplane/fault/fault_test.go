package fault_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/dataplane/fault"
	"github.com/freehold-db/freehold/router"
)

func TestFrom(t *testing.T) {
	pg := func(code string) error { return fmt.Errorf("query: %w", &pgconn.PgError{Code: code, Message: "m"}) }
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"unknown tenant", fmt.Errorf("x: %w", router.ErrUnknownTenant), 404, "unknown_tenant"},
		{"unresolved", router.ErrUnresolved, 503, "placement_unavailable"},
		{"suspended", router.ErrSuspended, 403, "tenant_suspended"},
		{"deleted", router.ErrDeleted, 410, "tenant_deleted"},
		{"busy", router.ErrBusy, 429, "too_many_requests"},
		{"hold", router.ErrHoldExpired, 503, "tenant_moving"},
		{"unreachable", fmt.Errorf("%w: %w", router.ErrUnreachable, pg("53300")), 503, "database_unreachable"},
		{"too large", fmt.Errorf("x: %w", router.ErrTooLarge), 400, "answer_too_large"},
		{"closed", router.ErrClosed, 503, "node_stopping"},
		{"a lost write wins over what broke it", fmt.Errorf("%w: %w", router.ErrOutcomeUnknown, context.DeadlineExceeded), 503, "outcome_unknown"},
		{"canceled", fmt.Errorf("x: %w", context.Canceled), 499, "canceled"},
		{"timeout", context.DeadlineExceeded, 504, "timeout"},
		{"body", &http.MaxBytesError{Limit: 10}, 413, "body_too_large"},
		{"unknown", errors.New("secret"), 500, "internal"},
		{"unique", pg("23505"), 409, "23505"},
		{"foreign key", pg("23503"), 409, "23503"},
		{"not null", pg("23502"), 400, "23502"},
		{"read only", pg("25006"), 405, "25006"},
		{"transaction state", pg("25001"), 500, "25001"},
		{"privilege", pg("42501"), 403, "42501"},
		{"no table", pg("42P01"), 404, "42P01"},
		{"no function", pg("42883"), 404, "42883"},
		{"no column", pg("42703"), 400, "42703"},
		{"statement timeout", pg("57014"), 500, "57014"},
		{"stack depth", pg("54001"), 500, "54001"},
		{"safe update", &pgconn.PgError{Code: "21000", Message: "UPDATE requires a WHERE clause"}, 400, "21000"},
		{"subquery of several rows", pg("21000"), 500, "21000"},
		{"no XML of it", &pgconn.PgError{Code: "42883", Message: "function xmlagg(t) does not exist"}, 406, "42883"},
		{"no such role", &pgconn.PgError{Code: "22023", Message: `role "x" does not exist`}, 401, "22023"},
		{"shutdown", pg("57P01"), 503, "57P01"},
		{"custom status", pg("PT402"), 402, "PT402"},
		{"bug of the server is opaque", pg("XX000"), 500, "internal"},
		{"files of the server are opaque", pg("58P01"), 500, "internal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fault.From(c.err)
			require.Equal(t, c.status, f.Status)
			require.Equal(t, c.code, f.Code)
			require.Same(t, f, fault.From(fmt.Errorf("again: %w", f)))
		})
	}
	// What hostile input makes Postgres refuse is never our 5xx.
	for _, state := range []string{"22021", "22P05", "22P02", "22003", "22008", "2201B", "22025", "42601", "54011"} {
		require.Equal(t, http.StatusBadRequest, fault.From(pg(state)).Status, state)
	}
}

func TestRaisedAnswer(t *testing.T) {
	f := fault.From(&pgconn.PgError{Code: "PGRST", Message: `{"code":"123","message":"Payment required","hint":"pay"}`,
		Detail: `{"status":402,"headers":{"X-Powered-By":"Nerd Rage"}}`})
	require.Equal(t, 402, f.Status)
	require.Equal(t, "123", f.Code)
	require.Equal(t, "Nerd Rage", f.Header.Get("X-Powered-By"))
	text, err := fault.From(&pgconn.PgError{Code: "PGRST", Message: `{"code":"1","message":"m","details":"","hint":""}`, Detail: `{"status":402,"headers":{}}`}).MarshalJSON()
	require.NoError(t, err)
	require.Equal(t, `{"code":"1","details":"","hint":"","message":"m"}`, string(text), "what SQL says without words is no null")
	require.Equal(t, "PGRST121", fault.From(&pgconn.PgError{Code: "PGRST", Message: "{"}).Code)
	require.Equal(t, "PGRST121", fault.From(&pgconn.PgError{Code: "PGRST", Message: `{"code":"1","message":"m"}`}).Code)
	require.Equal(t, "PGRST121", fault.From(&pgconn.PgError{Code: "PGRST", Message: `{"code":"1","message":"m"}`, Detail: `{"status":402}`}).Code, "headers are obligatory")
	require.Equal(t, 402, fault.From(&pgconn.PgError{Code: "PGRST", Message: `{"code":"","message":""}`, Detail: `{"status":402,"headers":{}}`}).Status)
}

func TestWrite(t *testing.T) {
	gin.SetMode(gin.TestMode)
	write := func(path string, err error) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		c, _ := gin.CreateTestContext(w)
		c.Request = httptest.NewRequest(http.MethodGet, path, nil)
		fault.Write(c, err)
		require.True(t, c.IsAborted())
		return w
	}
	w := write("/rest/v1/t", fault.New(400, "C", "m").WithHint("h"))
	require.Equal(t, 400, w.Code)
	require.JSONEq(t, `{"code":"C","message":"m","details":null,"hint":"h"}`, w.Body.String())
	require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))

	require.Equal(t, "PostgREST; error=C", w.Header().Get("Proxy-Status"))
	require.Equal(t, "", write("/rest/v1/t", fault.New(400, "C\nD", "m")).Header().Get("Proxy-Status"))
	require.Contains(t, write("/rest/v1/t", fault.New(400, "C", "no -> of <text>")).Body.String(), "no -> of <text>")

	w = write("/rest/v1/t", router.ErrBusy)
	require.Equal(t, "1", w.Header().Get("Retry-After"))

	w = write("/rest/v1x", fault.New(401, "C", "m"))
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
	var p map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
	require.Equal(t, "C", p["code"])

	w = write("/rest/v1/t", errors.New("password=hunter2"))
	require.Equal(t, 500, w.Code)
	require.NotContains(t, w.Body.String(), "hunter2")
	require.Contains(t, w.Body.String(), "error ID")
}
