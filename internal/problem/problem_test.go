package problem_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/problem"
)

func TestWriteThenParse(t *testing.T) {
	t.Parallel()
	want := problem.Problem{
		Status: 409, Title: "Conflict", Code: "move_running", Detail: "tenant acme is being moved", Hint: "wait for operation 7",
		Instance: "/v1/tenants/acme", RequestID: "r1", Errors: []problem.Fault{{Field: "to", Detail: "unknown shard"}},
	}
	w := httptest.NewRecorder()
	problem.Write(w, want)
	resp := w.Result()
	require.Equal(t, 409, resp.StatusCode)
	require.Equal(t, problem.ContentType, resp.Header.Get("Content-Type"))

	err := fmt.Errorf("move: %w", problem.Parse(resp))
	var got *problem.Problem
	require.ErrorAs(t, err, &got)
	require.Equal(t, want, *got)
	require.ErrorIs(t, err, &problem.Problem{Code: "move_running"})
	require.NotErrorIs(t, err, &problem.Problem{Code: "other"})
	require.Equal(t, "move_running", problem.Code(err))
	require.Equal(t, "tenant acme is being moved; to: unknown shard (wait for operation 7)", got.Error())
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	problem.Write(w, problem.Problem{})
	require.Equal(t, 500, w.Code)
	require.JSONEq(t, `{"title":"Internal Server Error","status":500}`, w.Body.String())
}

func TestParseOfWhatIsNoProblem(t *testing.T) {
	t.Parallel()
	resp := func(status int, ct, body string) *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {ct}}, Body: io.NopCloser(strings.NewReader(body))}
	}
	require.NoError(t, problem.Parse(resp(204, "", "")))
	err := problem.Parse(resp(502, "text/html", "<h1>bad gateway</h1>"))
	require.EqualError(t, err, "HTTP 502: <h1>bad gateway</h1>")
	err = problem.Parse(resp(502, problem.ContentType, "{"))
	require.EqualError(t, err, "HTTP 502: {")
	var p *problem.Problem
	require.True(t, errors.As(problem.Parse(resp(403, problem.ContentType, `{"status":200,"code":"x"}`)), &p))
	require.Equal(t, 403, p.Status)
	require.Len(t, problem.Parse(resp(500, "text/plain", strings.Repeat("é", 1000))).Error(), len("HTTP 500: ")+300+len("…"))
}
